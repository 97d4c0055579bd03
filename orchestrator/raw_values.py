"""The values of a study file before they are checked: lists at a place, and what is in one twice."""

from collections.abc import Iterator
from typing import Any

from jobs.errors import Code
from orchestrator.yaml_lines import Location

Found = Iterator[tuple[Location, Code, str]]
"""Broken rules: each with its place, its code and what is to be said."""


def items(raw: dict[str, Any], path: tuple[str, ...]) -> list[tuple[Location, Any]]:
    """The items of the list at ``path`` with their places; nothing when there is no list."""
    value: Any = raw
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return [((*path, i), item) for i, item in enumerate(value)] if isinstance(value, list) else []


def repeated(items: list[tuple[Location, Any]]) -> Found:
    """Values that are in a list twice."""
    seen: dict[Any, Location] = {}
    for location, value in items:
        if not isinstance(value, str | int | float):
            continue
        if value in seen:
            yield location, Code.REPEATED, f"{value!r} is in this list twice"
        seen.setdefault(value, location)
