"""Combining several errors into one."""

from collections.abc import Sequence

from jobs.errors import DeltaSweepError, Mistake


def raise_together(errors: Sequence[DeltaSweepError]) -> None:
    """Raise one error that lists all errors; a single error is raised unchanged, and an empty list raises nothing.

    The combined error has the code and place of the first one, and the class of all of them if they share one.
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
