"""A table as text for the terminal, CSV or JSON, or as Parquet bytes."""

import base64
import io
import json
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.delta_schema import is_deltas
from analysis.grid import UNLIMITED, grid
from jobs.errors import Code, InvalidRequest

Format: TypeAlias = Literal["table", "csv", "json", "parquet"]
_MUST_QUOTE = frozenset(',"\r\n')


def text(table: pa.Table, fmt: Literal["table", "csv", "json"], width: int = UNLIMITED) -> str:
    """``table`` as text that ends with a newline.

    Args:
        width: characters a line, for ``table`` only; wider cells are folded, never cut.
    """
    if fmt == "csv":
        return _csv(table)
    if fmt == "json":
        return _json(table)
    if is_deltas(table.schema):
        from analysis.delta_text import deltas_text

        return deltas_text(table, width)
    columns = {name: [cell(value) for value in _values(table, index)] for index, name in enumerate(table.column_names)}
    numeric = {name for name in table.column_names if _is_number(table.schema.field(name).type)}
    return grid(columns, numeric, width)


def parquet(table: pa.Table) -> bytes:
    """One Parquet file in memory.

    Raises:
        InvalidRequest: when a column has a type that Parquet has not.
    """
    buffer = io.BytesIO()
    try:
        pq.write_table(table, buffer, compression="zstd")
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise InvalidRequest(
            Code.WRONG_QUERY,
            f"an answer in Parquet has types that Parquet has; this one has not ({error}). Fix: make that column text "
            "in the query, CAST(... AS VARCHAR), or take another --format",
            key="--format",
        ) from error
    return buffer.getvalue()


def cell(value: object) -> str:
    """One value for a person: six significant digits, nothing for null, the size of a picture."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else f"{value:.6g}"
    return str(value)


def _values(table: pa.Table, index: int) -> list[Any]:
    """The values of a column as Python has them.

    Raises:
        InvalidRequest: when it has a time beyond those of Python, the years 1 to 9999.
    """
    try:
        values: list[Any] = table[index].to_pylist()
    except (OverflowError, ValueError) as error:
        name = table.column_names[index]
        raise InvalidRequest(
            Code.WRONG_QUERY,
            f"times are shown from year 1 to 9999, intervals up to a billion days; column {name!r} has others "
            f"({error}). Fix: make it text in the query, CAST(... AS VARCHAR)",
            key=name,
        ) from error
    return values


def _is_number(kind: pa.DataType) -> bool:
    tests: Sequence[Callable[[pa.DataType], bool]] = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return any(test(kind) for test in tests)


def _csv(table: pa.Table) -> str:
    """Numbers in full, text quoted only where it must be (RFC 4180), nothing for null; lists as JSON; bytes: base64."""
    columns = [[_csv_field(value) for value in _values(table, index)] for index in range(table.num_columns)]
    lines = [",".join(map(_csv_field, table.column_names)), *map(",".join, zip(*columns, strict=True))]
    return "\n".join(lines) + "\n"


def _csv_field(value: object) -> str:
    # not the csv module: with "\n" between lines it leaves a lone carriage return unquoted, and readers split there
    if value is None:
        return ""
    plain = _json_value(value) if isinstance(value, list | dict | bytes) else value
    words = json.dumps(plain, default=str, allow_nan=False) if isinstance(plain, list | dict) else str(plain)
    return '"' + words.replace('"', '""') + '"' if _MUST_QUOTE.intersection(words) else words


def _json(table: pa.Table) -> str:
    """An array with one object a row; what JSON cannot say, NaN and infinity, is null, in lists too; bytes: base64."""
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
        return [_json_value(one) for one in value]
    if isinstance(value, dict):
        return {str(name): _json_value(one) for name, one in value.items()}
    return value
