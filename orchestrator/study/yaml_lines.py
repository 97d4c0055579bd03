"""YAML with line numbers: the values, and the line of each."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import yaml

from jobs.errors import Code, InvalidRequest
from jobs.system import safe_yaml

Location = tuple[int | str, ...]


class Document(NamedTuple):
    """A parsed YAML document, or values from Python, which have neither a path nor lines."""

    path: str
    value: Any
    root: yaml.Node | None = None
    duplicates: Sequence[tuple[Location, int]] = ()

    def line(self, location: Location) -> int | None:
        """Return the line (from 1) of a key or list item, or of its nearest parent that is in the file.

        None: there is no file.
        """
        if not self.path:
            return None
        node, line = self.root, 1
        for step in location:
            child = _child(node, step)
            if child is None:
                break
            line, node = child
        return line

    def written(self, location: Location) -> str | None:
        """Return the text of a scalar as in the file, before any conversion of its type; None if there is no scalar."""
        node = self.root
        for step in location:
            child = _child(node, step)
            node = child[1] if child else None
        return node.value if isinstance(node, yaml.ScalarNode) else None


def parse(text: str, path: str, loader: type[yaml.SafeLoader] = safe_yaml.CoreLoader) -> Document:
    """Parse YAML.

    Args:
        loader: one of ``jobs.system.safe_yaml``, or PyYAML's for records.

    Raises:
        InvalidRequest: if the text is not valid YAML; names the line if it is known.
    """
    try:
        root, value = safe_yaml.compose(text, loader), safe_yaml.load(text, loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else None
        where = path if line is None else f"{path}:{line}"
        fix = ". Fix: indent with spaces, not with tabs" if "'\\t'" in str(error.problem) else ""
        raise InvalidRequest(
            Code.UNREADABLE_FILE,
            f"{where}: not valid YAML: {error.problem or error.context}{fix}",
            file=path,
            line=line,
        ) from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an impossible date, or a number with too many digits
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
    """Return the keys that occur twice in one mapping, of which PyYAML silently keeps the last."""
    duplicates: list[tuple[Location, int]] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                duplicates.append(((*location, key.value), key.start_mark.line + 1))
            seen.add(key.value)
            duplicates += _duplicates(value, (*location, key.value))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            duplicates += _duplicates(item, (*location, index))
    return duplicates
