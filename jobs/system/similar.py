"""Names that may have been meant by a misspelt one. No torch."""

from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache

_MOST_CHARACTERS = 60
_MOST_NAMES = 300
"""The time of comparing names grows with the square of their length, and errors may be about thousands of them."""


def close_matches(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Return the known names that are most like a name, the most similar first.

    Nothing is similar to a very long name, and very many names are not compared: both only occur in files that were
    not written by hand.

    Args:
        most: the number of names to return.
    """
    names = tuple(known)
    if len(name) > _MOST_CHARACTERS or len(names) > _MOST_NAMES:
        return []
    return list(_close(name, tuple(one for one in names if len(one) <= _MOST_CHARACTERS), most))


@lru_cache(maxsize=256)
def _close(name: str, known: tuple[str, ...], most: int) -> tuple[str, ...]:
    """Compare names once: the trials of a study repeat its mistakes."""
    return tuple(get_close_matches(name, known, n=most))
