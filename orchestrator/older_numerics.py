"""Results from before numbers of a kind were changed on purpose: which of them a person counts as done. No torch."""

from collections.abc import Iterable, Sequence
from types import MappingProxyType

from jobs.errors import Code, InvalidRequest
from jobs.results import kinds
from jobs.specs import Numerics, numerics_ever

OPTION = "--accept-numerics"
NONE_OLDER: Numerics = MappingProxyType({})
"""Results of today's numerics alone are done."""


def accepted_numerics(asked: Sequence[str]) -> Numerics:
    """The oldest numerics of each kind that count as done; kinds that are not in it have today's alone.

    Args:
        asked: each ``KIND:N``, or ``N`` for every kind; of several for one kind the oldest counts.

    Raises:
        InvalidRequest: for what is none of these, and for a kind or a number that no release had.
    """
    found: dict[str, int] = {}
    for text in asked:
        named, colon, said = text.rpartition(":")
        if colon and named not in kinds():
            raise InvalidRequest(
                Code.UNKNOWN_NAME,
                f"{OPTION} names a kind of trial: {', '.join(kinds())}; got {named!r} in {text!r}",
                key=OPTION,
            )
        of = [named] if colon else kinds()
        number = int(said) if said.isascii() and said.isdigit() else 0
        if not any(number in numerics_ever(kind) for kind in of):
            ever = ", ".join(f"{kind}:{_range(numerics_ever(kind))}" for kind in of)
            raise InvalidRequest(
                Code.WRONG_VALUE,
                f"{OPTION} takes N or KIND:N with numerics that the kind has had; got {text!r}. There are: {ever}",
                key=OPTION,
            )
        for kind in of:
            found[kind] = min(number, found.get(kind, number))
    return found


def accepts(accept: Numerics, older: Numerics) -> bool:
    """Whether a result counts as done all the same, by those of its numerics that are others today."""
    return all(kind in accept and number >= accept[kind] for kind, number in older.items())


def named(older: Iterable[Numerics], joint: str = " and ") -> str:
    """Numerics in words, as the option takes them; of several of one kind the oldest."""
    found: dict[str, int] = {}
    for one in older:
        found |= {kind: min(number, found.get(kind, number)) for kind, number in one.items()}
    return joint.join(f"{kind}:{number}" for kind, number in sorted(found.items()))


def _range(numbers: range) -> str:
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
