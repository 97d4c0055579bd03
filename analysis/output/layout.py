"""What a reader sees of a table: titles, columns of text, and remarks. The terminal and notebooks show the same."""

from collections.abc import Mapping
from typing import NamedTuple


class Layout(NamedTuple):
    """A table as text."""

    columns: Mapping[str, list[str]]
    """The cells of each column, by its heading."""
    right: frozenset[str]
    """Columns of numbers, which are right-aligned."""
    title: str | None = None
    notes: tuple[str, ...] = ()
    """Lines below the table."""
    units: Mapping[str, str] = {}
    """Units by heading, where they are not in the title."""

    def first(self, most: int | None) -> "Layout":
        """Return the layout with at most so many rows, and a note on the others; None: with all."""
        rows = max(map(len, self.columns.values()), default=0)
        if most is None or rows <= most:
            return self
        columns = {name: cells[:most] for name, cells in self.columns.items()}
        return self._replace(columns=columns, notes=(*more(rows - most), *self.notes))

    def within(self, width: int) -> "Layout":
        """Return the first columns, as far as they fit into so many characters, and a note on the others."""
        wide, shown = 0, dict[str, list[str]]()
        for name, cells in self.columns.items():
            wide += max(map(len, [name, *cells])) + 2
            if shown and wide > width:
                break
            shown[name] = cells
        others = [name for name in self.columns if name not in shown]
        note = [f"{len(others)} more columns are not shown: {', '.join(others)}"] if others else []
        return self._replace(columns=shown, notes=(*note, *self.notes))


def more(rows: int) -> tuple[str, ...]:
    """Return the note on rows that are not shown; nothing if all are."""
    return (f"{rows:,} more rows are not shown",) if rows else ()
