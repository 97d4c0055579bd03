"""A table before it is written: columns of text, and the cells to emphasize."""

from dataclasses import dataclass, field

TableRow = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the paper, or one like it. All cells are text, ready to be typeset."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    numbers: frozenset[str]
    """Columns of numbers, which are right-aligned."""
    best: frozenset[tuple[int, str]] = field(default=frozenset())
    """(row, column) of the cells in bold."""
    notes: tuple[str, ...] = ()
