"""Output of verbs: standard output and standard error, JSON, and tables as text."""

import json
import sys
from typing import TYPE_CHECKING, Literal

from orchestrator.process import streams
from orchestrator.process.terminal import Terminal

if TYPE_CHECKING:
    import pyarrow as pa

out = Terminal()
err = Terminal(stderr=True)


def print_json(value: object) -> None:
    """Print a value as JSON, with escapes for characters that the output's encoding lacks."""
    out.print_json(json.dumps(value), ensure_ascii=not streams.is_unicode(sys.stdout))


def table_text(table: "pa.Table", form: Literal["table", "csv", "json"]) -> str:
    """Return a table as text, folded to the terminal's width if standard output is a terminal."""
    from analysis.output import formats

    return formats.text(table, form, out.width) if sys.stdout.isatty() else formats.text(table, form)
