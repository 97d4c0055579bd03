"""The Arrow schema of each kind's results, in the current version and every version that a release wrote.

Units and roles are stored in the field metadata, so Parquet files are self-describing.
"""

from collections.abc import Mapping
from functools import cache

import pyarrow as pa

from jobs.kind import kinds
from jobs.specs.columns import Column, Role, RowSchema

KIND_KEY, VERSION_KEY, WRITER_KEY = "deltasweep_kind", "deltasweep_schema", "deltasweep_version"
ROWS_KEY = "deltasweep_rows_sha256"


def rows_of(kind: str) -> RowSchema:
    """Return the row schema of a kind."""
    return kinds()[kind].rows


def version(kind: str) -> int:
    """Return the current version of a kind's schema."""
    return max(rows_of(kind).releases)


def releases(kind: str) -> Mapping[int, str]:
    """Return every readable version of a kind's schema, with the first release that wrote it."""
    return rows_of(kind).releases


def columns(kind: str, at: int | None = None) -> tuple[Column, ...]:
    """Return the columns of a kind in a version of its schema; None: the current version."""
    return rows_of(kind).at(at)


def numbering(kind: str) -> str:
    """Return the name of the column that numbers the rows of a trial."""
    return rows_of(kind).number


def varying(kind: str) -> frozenset[str]:
    """Return the names of the columns in which the rows of a trial may differ."""
    return rows_of(kind).varying | {rows_of(kind).number}


def most_rows(kind: str) -> int:
    """Return the maximum number of rows of a trial's result."""
    return rows_of(kind).most_rows


def most_bytes(kind: str) -> int:
    """Return the maximum memory of a trial's result, in bytes."""
    return rows_of(kind).most_bytes


def view(kind: str) -> str:
    """Return the name of a kind's view in queries."""
    return rows_of(kind).view


@cache
def schema(kind: str, at: int | None = None) -> pa.Schema:
    """Return the Arrow schema of a kind in a version (None: the current one).

    Its metadata contain the kind and the version; the metadata of each field contain role, unit and description.
    """
    return pa.schema(
        [
            pa.field(
                column.name,
                column.type,
                nullable=column.nullable,
                metadata={"role": column.role.value, "unit": column.unit, "description": column.description},
            )
            for column in columns(kind, at)
        ],
        metadata={KIND_KEY: kind, VERSION_KEY: str(at or version(kind))},
    )


def comparable_columns(kind: str, at: int | None = None) -> list[str]:
    """Return the names of the columns in which two runs of a trial must agree: all except measured ones.

    Args:
        at: the schema version; None: the current one.
    """
    return [column.name for column in columns(kind, at) if column.role is not Role.MEASURED]
