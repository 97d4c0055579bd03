"""Values from YAML that strangers may have written: plain ones, and not more than a file has room for."""

from typing import Any

import yaml

MOST_VALUES = 100_000
"""With every alias written out. A few lines of aliases of aliases stand for more than any memory holds."""


def compose(text: str) -> yaml.Node | None:
    """The tree of one YAML document, None for an empty one. An alias shares its node.

    Raises:
        yaml.YAMLError: when it is not YAML, or stands for more than ``MOST_VALUES``.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            _count(root, {})
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error
    return root


def load(text: str) -> Any:
    """The values of one YAML document; a tag that asks for anything but a plain value is refused.

    Raises:
        yaml.YAMLError: as ``compose``.
        ValueError: for a plain value that cannot be, such as a date.
    """
    compose(text)
    return yaml.safe_load(text)


def _count(node: yaml.Node, known: dict[int, int | None]) -> int:
    """The values that a node stands for; ``known`` has those of the nodes seen before, None while they are counted."""
    if id(node) in known:
        count = known[id(node)]
        if count is None:
            raise yaml.YAMLError("an alias (*name) stands inside what it is an alias of; write it out")
        return count
    known[id(node)] = None
    inside = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    count = 1 if isinstance(node, yaml.ScalarNode) else 1 + sum(_count(part, known) for part in inside)
    if count > MOST_VALUES:
        raise yaml.YAMLError(f"with its aliases written out it has more than {MOST_VALUES:,} values; use fewer")
    known[id(node)] = count
    return count
