"""Aligned columns of text for a terminal."""

import io
from collections.abc import Collection, Mapping

from jobs.system.printable import one_line

UNLIMITED = 10_000
"""Characters per line where no width is given: output to a file or pipe is never truncated."""


def grid(
    columns: Mapping[str, list[str]], right: Collection[str], width: int = UNLIMITED, title: str | None = None
) -> str:
    """Return columns of text below their names; those in ``right`` are right-aligned.

    Line breaks in a text are escaped: its lines would look like rows.
    """
    # rich is imported here because csv and json do not need it
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    heading = None if title is None else Text(one_line(title))
    table = Table(box=box.SIMPLE_HEAD, title=heading, title_justify="left", title_style="", padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(Text(one_line(name)), justify="right" if name in right else "left", overflow="fold")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*(Text(one_line(value)) for value in row))
    buffer = io.StringIO()
    # rich would show it in a notebook instead of writing it
    Console(file=buffer, width=width, color_system=None, legacy_windows=False, force_jupyter=False).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()).strip("\n") + "\n"
