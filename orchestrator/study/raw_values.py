"""The values of a study file before they are validated, each with its location."""

import datetime
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeAlias

from jobs.errors import Code
from jobs.system.printable import shown
from orchestrator.study.yaml_lines import Location

Violation: TypeAlias = tuple[Location, Code, str]
"""A broken rule: its location, its code and its message."""

Violations: TypeAlias = Iterator[Violation]

MOST_MISTAKES = 100
"""The number of mistakes in a file after which no more are looked for. Files with more were not written by hand."""


def counted(mistakes: int, found: int) -> str:
    """Return the number of mistakes for the first line of a message.

    Args:
        found: the number with duplicates, at which the search ended.
    """
    if found >= MOST_MISTAKES:
        return f"at least {mistakes} mistakes; no others were looked for"
    return f"{mistakes} mistake{'s' if mistakes > 1 else ''}"


KINDS: dict[type, str] = {
    int: "a number",
    float: "a number",
    bool: "a Boolean (true or false)",
    str: "a text",
    type(None): "nothing",
    datetime.date: "a date",
}
"""What YAML reads a value as, by its type in Python."""


def not_text(given: object, written: str) -> str:
    """Return the message about a value that is read as something else where a text is needed.

    Args:
        written: the value as in the file.
    """
    return f"expected a text, but {written} is {KINDS.get(type(given), 'none')}. Fix: quote it: '{written}'"


def mapping(raw: dict[str, Any], *path: str) -> dict[str, Any]:
    """Return the mapping at ``path``; an empty one if there is none."""
    value = _at(raw, path)
    return value if isinstance(value, dict) else {}


def items(raw: dict[str, Any], path: Location) -> list[tuple[Location, Any]]:
    """Return the items of the list at ``path`` with their locations; an empty list if there is none."""
    value = _at(raw, path)
    return [((*path, i), item) for i, item in enumerate(value)] if isinstance(value, list) else []


class Written:
    """Where the values of a study are written. Each part of the file is searched once, however many trials ask."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self._raw = raw
        self._parts: dict[str, dict[tuple[str, Any], tuple[int, Location]]] = {}

    def has(self, part: str, key: str) -> bool:
        """Whether a part of the study has a key."""
        return key in mapping(self._raw, part)

    def first(self, part: str, keys: Iterable[str], value: Any) -> Location | None:
        """Return the first location of a value under one of the keys in a part of the study; None if there is none.

        Args:
            value: a value of a spec, whose tuples are lists in the file.
        """
        found = self._part(part)
        try:
            places = [found[key, value] for key in keys if (key, value) in found]
        except TypeError:  # it is a list, which no spec of this package has
            return None
        return min(places)[1] if places else None

    def _part(self, part: str) -> dict[tuple[str, Any], tuple[int, Location]]:
        if part not in self._parts:
            found = self._parts[part] = {}
            for number, (location, item) in enumerate(_walk(self._raw.get(part), (part,))):
                with suppress(TypeError):  # a collection of collections is no value of a spec
                    found.setdefault(
                        (_key(location), tuple(item) if isinstance(item, list) else item), (number, location)
                    )
        return self._parts[part]


def _walk(value: Any, location: Location) -> Iterator[tuple[Location, Any]]:
    """Yield a value and all values in it, each with its location, in the order of the file."""
    yield location, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in inner:
        yield from _walk(item, (*location, step))


def _key(location: Location) -> str:
    """Return the last key in a location: the key of the value, or of the list that contains it."""
    return next(step for step in reversed(location) if isinstance(step, str))


def repeated(items: list[tuple[Location, Any]]) -> Violations:
    """Yield a violation for each repeated value in a list."""
    seen = set()
    for location, value in items:
        if isinstance(value, str | int | float):
            if value in seen:
                yield location, Code.REPEATED, f"{shown(value)} is in this list twice"
            seen.add(value)


def _at(value: Any, path: Location) -> Any:
    """Return the value at a location; None if there is none."""
    for step in path:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value):
            value = value[step]
        else:
            return None
    return value
