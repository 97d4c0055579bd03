"""Output of verbs: what was asked for, notes about the work, errors, JSON, and tables as text."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from orchestrator.process import streams
from orchestrator.process.terminal import Terminal, can_redraw, for_tables

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.table import Table

out = Terminal()
"""What a verb was asked for, on standard output. Nothing else is printed there with ``--json``."""
notes = Terminal()
"""What a verb does meanwhile: on standard output, on standard error with ``--json``, nowhere with ``--quiet``."""
err = Terminal(stderr=True)
"""Errors and warnings."""


@contextmanager
def one_command() -> Iterator[None]:
    """Print notes as ``--json`` and ``--quiet`` of one command ask for, which are unknown at its start."""
    notes.stderr = notes.quiet = False
    try:
        yield
    finally:
        notes.stderr = notes.quiet = False


def somebody_looks() -> bool:
    """Whether notes are shown on a terminal."""
    return can_redraw(notes)


def json_asked(value: bool) -> bool:
    """Callback of ``--json``."""
    notes.stderr |= value
    return value


def quiet_asked(value: bool) -> bool:
    """Callback of ``--quiet``."""
    notes.quiet |= value
    return value


def tell_failed(line: str) -> None:
    """Print a line about a failure among the notes, or on standard error if they are not printed."""
    (err if notes.quiet else notes).print(line)


def print_json(value: object) -> None:
    """Print a value as JSON, with escapes for characters that the output's encoding lacks."""
    out.print_json(json.dumps(value), ensure_ascii=not streams.is_unicode(sys.stdout))


def print_table(table: "Table") -> None:
    """Print a table of rich, as wide as it needs unless standard output is a terminal."""
    for_tables().print(table)


def table_text(table: "pa.Table", form: Literal["table", "csv", "json"]) -> str:
    """Return a table as text, folded to the terminal's width if standard output is a terminal."""
    from analysis.output import formats

    return formats.text(table, form, out.width) if sys.stdout.isatty() else formats.text(table, form)
