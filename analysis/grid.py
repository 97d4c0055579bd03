"""Columns of text, aligned for a terminal."""

import io

from jobs.printable import printable

UNLIMITED = 10_000
"""Characters a line where nobody said how wide: output into a file or pipe is never cut."""


def grid(columns: dict[str, list[str]], right: set[str], width: int = UNLIMITED, title: str | None = None) -> str:
    """Columns of text under their names, those in ``right`` aligned to the right."""
    # rich is loaded here: csv and json do without it
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="", padding=(0, 1, 0, 0))
    for name in columns:
        made.add_column(Text(printable(name)), justify="right" if name in right else "left", overflow="fold")
    for row in zip(*columns.values(), strict=True):
        made.add_row(*(Text(printable(value)) for value in row))
    buffer = io.StringIO()
    Console(file=buffer, width=width, color_system=None, legacy_windows=False).print(made)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()).strip("\n") + "\n"
