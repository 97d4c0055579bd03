"""A table before it is written: columns of text, and the cells to emphasize."""

from dataclasses import dataclass, field

from jobs.system.printable import one_line

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

    def __post_init__(self) -> None:
        """Make every text printable, on one line: names come from results, and a line break would begin a row."""
        texts = {
            "title": one_line(self.title),
            "columns": tuple(map(one_line, self.columns)),
            "rows": tuple(tuple(map(one_line, row)) for row in self.rows),
            "numbers": frozenset(map(one_line, self.numbers)),
            "best": frozenset((row, one_line(column)) for row, column in self.best),
            "notes": tuple(map(one_line, self.notes)),
        }
        for name, value in texts.items():
            object.__setattr__(self, name, value)
