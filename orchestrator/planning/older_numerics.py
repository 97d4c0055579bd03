"""Results with older numerics versions that count as done (``--accept-numerics``). No torch."""

from collections.abc import Iterable, Sequence
from types import MappingProxyType

from jobs.errors import Code, InvalidRequest
from jobs.kind import kinds
from jobs.specs.trial import Numerics
from jobs.system.given import several

OPTION = "--accept-numerics"
NONE_OLDER: Numerics = MappingProxyType({})
"""Only results with the current numerics versions count as done."""


def accepted_numerics(asked: Sequence[str]) -> Numerics:
    """Return the oldest numerics version that counts as done, by kind. Other kinds accept only the current version.

    Args:
        asked: Values ``KIND:N``, or ``N`` for every kind, or one such value. The oldest of several for one kind counts.

    Raises:
        InvalidRequest: If a value has another form, or no release had this kind or number.
    """
    oldest: dict[str, int] = {}
    for text in map(str, several(asked)):
        named, colon, digits = text.rpartition(":")
        if colon and named not in kinds():
            raise InvalidRequest(
                Code.UNKNOWN_NAME,
                f"expected {OPTION} with a kind of trial ({', '.join(kinds())}); got {named!r} in {text!r}",
                key=OPTION,
            )
        of = [named] if colon else kinds()
        number = int(digits) if digits.isascii() and digits.isdigit() else 0
        if not any(number in kinds()[kind].spec.numerics_versions() for kind in of):
            ever = ", ".join(f"{kind}:{_range(kinds()[kind].spec.numerics_versions())}" for kind in of)
            raise InvalidRequest(
                Code.WRONG_VALUE,
                f"expected {OPTION} N or KIND:N with a numerics version of that kind; got {text!r}. Versions: {ever}",
                key=OPTION,
            )
        for kind in of:
            oldest[kind] = min(number, oldest.get(kind, number))
    return oldest


def accepts(accept: Numerics, older: Numerics) -> bool:
    """Whether a result counts as done, given its outdated numerics versions."""
    return all(kind in accept and number >= accept[kind] for kind, number in older.items())


def named(older: Iterable[Numerics], joint: str = " and ") -> str:
    """Format numerics versions as values of the option; the oldest of several for one kind."""
    oldest: dict[str, int] = {}
    for numerics in older:
        oldest |= {kind: min(number, oldest.get(kind, number)) for kind, number in numerics.items()}
    return joint.join(f"{kind}:{number}" for kind, number in sorted(oldest.items()))


def _range(numbers: range) -> str:
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
