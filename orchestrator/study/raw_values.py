"""The values of a study file before they are validated, each with its location."""

from collections.abc import Iterator
from typing import Any, TypeAlias

from jobs.errors import Code
from orchestrator.study.yaml_lines import Location

Violation: TypeAlias = tuple[Location, Code, str]
"""A broken rule: its location, its code and its message."""

Violations: TypeAlias = Iterator[Violation]


def mapping(raw: dict[str, Any], *path: str) -> dict[str, Any]:
    """Return the mapping at ``path``; an empty one if there is none."""
    value = _at(raw, path)
    return value if isinstance(value, dict) else {}


def items(raw: dict[str, Any], path: Location) -> list[tuple[Location, Any]]:
    """Return the items of the list at ``path`` with their locations; an empty list if there is none."""
    value = _at(raw, path)
    return [((*path, i), item) for i, item in enumerate(value)] if isinstance(value, list) else []


def walk(value: Any, location: Location) -> Iterator[tuple[Location, Any]]:
    """Yield a value and all values in it, each with its location, in the order of the file."""
    yield location, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in inner:
        yield from walk(item, (*location, step))


def repeated(items: list[tuple[Location, Any]]) -> Violations:
    """Yield a violation for each repeated value in a list."""
    seen = set()
    for location, value in items:
        if isinstance(value, str | int | float):
            if value in seen:
                yield location, Code.REPEATED, f"{value!r} is in this list twice"
            seen.add(value)


def _at(value: Any, path: Location) -> Any:
    """Return the value at a location; None if there is none."""
    for step in path:
        inside = dict(enumerate(value)) if isinstance(value, list) else value
        value = inside.get(step) if isinstance(inside, dict) else None
    return value
