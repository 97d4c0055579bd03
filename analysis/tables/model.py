"""What a table is before it is written: columns of text, and which cells stand out."""

from dataclasses import dataclass, field

Row = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the paper, or of its kind. All cells are text, ready to be set."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    numbers: frozenset[str]
    """Columns of numbers, set to the right."""
    best: frozenset[tuple[int, str]] = field(default=frozenset())
    """(row, column) of the cells in bold."""
    notes: tuple[str, ...] = ()
