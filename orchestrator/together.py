"""Errors of several things that were asked for at once, as one."""

from collections.abc import Sequence

from jobs.errors import DeltaSweepError, Mistake


def raise_together(errors: Sequence[DeltaSweepError]) -> None:
    """Raise one error that tells all; nothing where there is none, and one alone as it is.

    It is of their kind, where that is one, and has the code and place of the first.
    """
    if not errors:
        return
    first, *others = errors
    if not others:
        raise first
    kinds = {type(error) for error in errors}
    kind = kinds.pop() if len(kinds) == 1 else DeltaSweepError
    raise kind(
        first.code,
        "\n".join(map(str, errors)),
        **first.place._asdict(),
        mistakes=[Mistake(error.code, error.place, str(error)) for error in errors],
    )
