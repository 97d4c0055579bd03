"""Formatting a table as text for the terminal, as CSV, JSON or Parquet."""

import base64
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.output.grid import UNLIMITED, grid
from analysis.output.layout import Layout, more
from analysis.paired.schema import is_table
from jobs.errors import Code, InvalidRequest
from jobs.system.printable import one_line

Format: TypeAlias = Literal["table", "csv", "json", "parquet"]
_MUST_QUOTE = frozenset(',"\r\n')
_FORMULA = re.compile("[-=+@\t\r\n\uff0b\uff0d\uff1d\uff20]")
"""First characters with which a spreadsheet may take a text for a formula, some only in their wide forms."""
_NUMBERS = re.compile(r"(?:[-+\u2212\d.,%()\[\] ]|\de[-+\d]| to )+", re.ASCII)
"""Texts of numbers and intervals, with which no formula can do anything."""


def text(table: pa.Table, fmt: Literal["table", "csv", "json"], width: int = UNLIMITED) -> str:
    """Format ``table`` as text that ends with a newline.

    Args:
        width: characters per line, used only for the format ``table``; wider cells are folded, never truncated.
    """
    if fmt == "csv":
        return _csv(table)
    if fmt == "json":
        return _json(table)
    return laid_out(layouts(table), width)


def layouts(table: pa.Table, most: int | None = None) -> list[Layout]:
    """Return what a reader sees of a table: deltas and equivalences have layouts of their own.

    Args:
        most: number of rows after which each layout ends; None: it has all.
    """
    if is_table(table.schema, "deltas"):
        from analysis.output.deltas_text import deltas_layout

        return [deltas_layout(table).first(most)]
    if is_table(table.schema, "equivalences"):
        from analysis.output.equivalences_text import equivalences_layouts

        return [layout.first(most) for layout in equivalences_layouts(table)]
    from analysis.sql.units import units

    rows = table.slice(0, most)
    columns = {name: [cell(value) for value in _values(rows, index)] for index, name in enumerate(table.column_names)}
    numeric = {name for name in table.column_names if _is_number(table.schema.field(name).type)}
    return [Layout(columns, frozenset(numeric), notes=more(table.num_rows - rows.num_rows), units=units(table.schema))]


def laid_out(layouts: Sequence[Layout], width: int = UNLIMITED) -> str:
    """Return layouts as text that ends with a newline."""
    return "\n".join(
        (grid(layout.columns, layout.right, width, layout.title) if layout.columns else "")
        + "".join(f"{one_line(note)}\n" for note in layout.notes)
        for layout in layouts
    )


def spreadsheet(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Format as CSV for a reader, who may open it in a spreadsheet.

    It is the CSV of ``text``, but an apostrophe stands before texts that a spreadsheet would take for formulas.
    """
    return "".join(",".join(_quoted(_inert(value)) for value in row) + "\n" for row in (columns, *rows))


def parquet(table: pa.Table) -> bytes:
    """Return the table as the bytes of one Parquet file.

    Raises:
        InvalidRequest: when a column has a type that Parquet does not support.
    """
    buffer = io.BytesIO()
    try:
        pq.write_table(table, buffer, compression="zstd")
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise InvalidRequest(
            Code.WRONG_QUERY,
            f"expected column types that Parquet supports; got others ({error}). Fix: convert the column to text in "
            "the query, CAST(... AS VARCHAR), or choose another --format",
            key="--format",
        ) from error
    return buffer.getvalue()


def cell(value: object) -> str:
    """Format one value for a reader: six significant digits, an empty string for null, the size of binary data."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else f"{value:.6g}"
    return str(value)


def _values(table: pa.Table, index: int) -> list[Any]:
    """Return the values of a column as Python objects.

    Raises:
        InvalidRequest: when it contains a time outside Python's range, the years 1 to 9999.
    """
    try:
        values: list[Any] = table[index].to_pylist()
    except (OverflowError, ValueError) as error:
        name = table.column_names[index]
        raise InvalidRequest(
            Code.WRONG_QUERY,
            f"expected times from year 1 to 9999 and intervals of up to a billion days; column {name!r} has others "
            f"({error}). Fix: convert it to text in the query, CAST(... AS VARCHAR)",
            key=name,
        ) from error
    return values


def _is_number(kind: pa.DataType) -> bool:
    tests: Sequence[Callable[[pa.DataType], bool]] = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return any(test(kind) for test in tests)


def _csv(table: pa.Table) -> str:
    """Format as CSV: numbers in full, quotes only where needed (RFC 4180), null empty, lists as JSON, binary base64."""
    columns = [[_csv_field(value) for value in _values(table, index)] for index in range(table.num_columns)]
    lines = [",".join(map(_csv_field, table.column_names)), *map(",".join, zip(*columns, strict=True))]
    return "\n".join(lines) + "\n"


def _csv_field(value: object) -> str:
    return _quoted(_words(value))


def _words(value: object) -> str:
    if value is None:
        return ""
    plain = _json_value(value) if isinstance(value, list | dict | bytes) else value
    return json.dumps(plain, default=str, allow_nan=False) if isinstance(plain, list | dict) else str(plain)


def _quoted(words: str) -> str:
    # not the csv module: with "\n" between lines it leaves a lone carriage return unquoted, where readers split lines
    return '"' + words.replace('"', '""') + '"' if _MUST_QUOTE.intersection(words) else words


def _inert(value: object) -> str:
    words = _words(value)
    is_number = isinstance(value, int | float | Decimal) or _NUMBERS.fullmatch(words)
    return f"'{words}" if _FORMULA.match(words) and not is_number else words


def _json(table: pa.Table) -> str:
    """Format as a JSON array of one object per row; NaN and infinity are null, also in lists; binary data is base64."""
    columns = [[_json_value(value) for value in _values(table, index)] for index in range(table.num_columns)]
    rows = [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]
    return json.dumps(rows, indent=1, default=str, allow_nan=False) + "\n"


def _json_value(value: object) -> object:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list | tuple):
        return [_json_value(element) for element in value]
    if isinstance(value, dict):
        return {str(name): _json_value(element) for name, element in value.items()}
    return value
