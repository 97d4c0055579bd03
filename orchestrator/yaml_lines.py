"""YAML with line numbers: the values, and where each of them stands."""

from typing import Any, NamedTuple

import yaml

from jobs import yaml_values
from jobs.errors import Code, InvalidRequest

Location = tuple[int | str, ...]


class Document(NamedTuple):
    """A parsed YAML document."""

    path: str
    value: Any
    root: yaml.Node | None
    duplicates: list[tuple[Location, int]]

    def line(self, location: Location) -> int:
        """The line (from 1) of a key or list item, or of the nearest thing around it that is in the file."""
        node, line = self.root, 1
        for step in location:
            found = _child(node, step)
            if found is None:
                break
            line, node = found
        return line

    def written(self, location: Location) -> str | None:
        """A plain value as it stands in the file, before it is a number or anything else; None where there is none."""
        node = self.root
        for step in location:
            found = _child(node, step)
            node = found[1] if found else None
        return node.value if isinstance(node, yaml.ScalarNode) else None


def parse(text: str, path: str, loader: type[yaml.SafeLoader] = yaml_values.CoreLoader) -> Document:
    """Parse YAML.

    Args:
        loader: of ``jobs.yaml_values``.

    Raises:
        InvalidRequest: with the line, when the text is not YAML.
    """
    try:
        root, value = yaml_values.compose(text, loader), yaml_values.load(text, loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else None
        where = path if line is None else f"{path}:{line}"
        raise InvalidRequest(
            Code.UNREADABLE_FILE, f"{where}: not valid YAML: {error.problem or error.context}", file=path, line=line
        ) from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no such date, a number too long
        raise InvalidRequest(Code.UNREADABLE_FILE, f"{path}: not valid YAML: {error}", file=path) from error
    return Document(path, value, root, list(_duplicates(root, ())))


def _child(node: yaml.Node | None, step: int | str) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == step:
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        item = node.value[step]
        return item.start_mark.line + 1, item
    return None


def _duplicates(node: yaml.Node | None, location: Location) -> list[tuple[Location, int]]:
    """Keys written twice in one mapping; PyYAML would silently keep the last."""
    found: list[tuple[Location, int]] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                found.append(((*location, key.value), key.start_mark.line + 1))
            seen.add(key.value)
            found += _duplicates(value, (*location, key.value))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            found += _duplicates(item, (*location, index))
    return found
