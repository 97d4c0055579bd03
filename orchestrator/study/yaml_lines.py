"""YAML with line numbers: the values, and the line of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from jobs.errors import Code, InvalidRequest
from jobs.system import safe_yaml
from jobs.system.printable import brief, one_line

Location = tuple[int | str, ...]


@dataclass(frozen=True)
class Document:
    """A parsed YAML document, or values from Python, which have neither a path nor lines."""

    path: str
    value: Any
    root: yaml.Node | None = None
    duplicates: Sequence[tuple[Location, int]] = ()
    _keys: dict[int, dict[str, tuple[int, yaml.Node]]] = field(default_factory=dict)
    """The keys of each mapping that was asked about, with their lines and values, by the id of its node."""

    def line(self, location: Location) -> int | None:
        """Return the line (from 1) of a key or list item, or of its nearest parent that is in the file.

        None: there is no file.
        """
        if not self.path:
            return None
        node, line = self.root, 1
        for step in location:
            child = self._child(node, step)
            if child is None:
                break
            line, node = child
        return line

    def written(self, location: Location) -> str | None:
        """Return the text of a scalar as in the file, before any conversion of its type; None if there is no scalar."""
        node = self.root
        for step in location:
            child = self._child(node, step)
            node = child[1] if child else None
        return node.value if isinstance(node, yaml.ScalarNode) else None

    def _child(self, node: yaml.Node | None, step: int | str) -> tuple[int, yaml.Node] | None:
        if isinstance(node, yaml.MappingNode):
            if id(node) not in self._keys:
                self._keys[id(node)] = {
                    key.value: (key.start_mark.line + 1, value)
                    for key, value in reversed(node.value)  # of a repeated key, the first one counts
                    if isinstance(key, yaml.ScalarNode)
                }
            return self._keys[id(node)].get(str(step))  # a key such as 2026 is an integer
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            item = node.value[step]
            return item.start_mark.line + 1, item
        return None


def parse(text: str, path: str, loader: type[safe_yaml.Loader] = safe_yaml.CoreLoader) -> Document:
    """Parse YAML.

    Args:
        loader: one of ``jobs.system.safe_yaml``; ``Loader`` for records.

    Raises:
        InvalidRequest: if the text is not valid YAML; names the line if it is known.
    """
    try:
        root, value = safe_yaml.compose(text, loader), safe_yaml.load(text, loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else None
        where = one_line(path if line is None else f"{path}:{line}")
        fix = ". Fix: indent with spaces, not with tabs" if "'\\t'" in str(error.problem) else ""
        raise InvalidRequest(
            Code.UNREADABLE_FILE,
            f"{where}: not valid YAML: {brief(str(error.problem or error.context))}{fix}",
            file=path,
            line=line,
        ) from error
    except yaml.YAMLError as error:
        message = brief(" ".join(str(error).split()))
        raise InvalidRequest(Code.UNREADABLE_FILE, f"{one_line(path)}: not valid YAML: {message}", file=path) from error
    return Document(path, value, root, list(_duplicates(root, ())))


def _duplicates(node: yaml.Node | None, location: Location) -> Iterator[tuple[Location, int]]:
    """Yield the keys that occur twice in one mapping, of which PyYAML silently keeps the last."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # it is no key of a study
            if key.value in seen:
                yield (*location, key.value), key.start_mark.line + 1
            seen.add(key.value)
            yield from _duplicates(value, (*location, key.value))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _duplicates(item, (*location, index))
