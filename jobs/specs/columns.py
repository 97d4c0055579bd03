"""Result schemas: the columns of a finished trial, each with a type, a role and a unit, and the layout of its rows.

No torch. A kind's schema can only gain columns. An added column states the release that added it (``since``) and its
value in older files (``fill``), so that files of every version stay readable.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

import pyarrow as pa

from jobs.specs.base import MOST_EPOCHS


class Role(StrEnum):
    """What a column describes."""

    IDENTITY = "identity"
    """Follows from the spec."""
    NUMBER = "number"
    """Follows from running the spec: equal in every run on one device kind with the same torch and torchvision
    (docs/explanation/architecture.md)."""
    MEASURED = "measured"
    """Differs between runs: time, place, versions. Ignored when two runs are compared."""


class Column(NamedTuple):
    """A column of a kind's results."""

    name: str
    type: pa.DataType
    role: Role
    description: str
    unit: str = ""
    nullable: bool = False
    since: str = "0.1.0"
    """First release of DeltaSweep that writes this column."""
    fill: object = None
    """Value in the rows of older files. None means null and requires a nullable column."""
    fill_where: tuple[str, str] | None = None
    """(column, value): fill only the rows whose text column has this value; the other rows get null. Older files must
    have the column."""


TEXT, INT, FLOAT, BYTES = pa.string(), pa.int64(), pa.float64(), pa.binary()
INTS, FLOATS = pa.list_(INT), pa.list_(FLOAT)

MEASURED_COLUMNS: tuple[Column, ...] = (
    Column(
        "seconds",
        FLOAT,
        Role.MEASURED,
        "time spent on the trial up to this evaluation, over all attempts",
        "seconds",
        nullable=True,
    ),
    Column(
        "device_kind",
        TEXT,
        Role.MEASURED,
        "device kind on which the numbers are reproducible; A -> B: started on A, continued on B",
        nullable=True,
    ),
    Column("host", TEXT, Role.MEASURED, "host name of the machine", nullable=True),
    Column("attempt", INT, Role.MEASURED, "number of the attempt that finished, from 1", nullable=True),
    Column("launch", TEXT, Role.MEASURED, "id of the launch; empty outside a launch", nullable=True),
    Column("finished_at", TEXT, Role.MEASURED, "time of completion, UTC, ISO 8601", nullable=True),
    Column("code_version", TEXT, Role.MEASURED, "version of DeltaSweep", nullable=True),
    Column("packages", TEXT, Role.MEASURED, "package versions, JSON; A -> B: first A, then B", nullable=True),
)
"""Measured columns that every kind has."""


EVERY_KIND = ("trial_id", "dataset", "seed", "recipe", "recipe_json", "numerics", "origin")
"""Other columns that every kind has."""


def release_order(release: str) -> tuple[int, ...]:
    """Return the sort key of a release: 0.10.0 comes after 0.9.0."""
    return tuple(int(part) for part in release.split(".")[:3])


class RowSchema(NamedTuple):
    """The schema of a kind's result rows."""

    columns: tuple[Column, ...]
    number: str
    """Column that numbers the rows of a trial: its values are unique within a trial and sort the rows."""
    view: str
    """Name of the kind's view in queries."""
    releases: Mapping[int, str] = MappingProxyType({1: "0.1.0"})
    """Schema version (stored in every file) to the first release that wrote it. A release that adds columns adds a
    version.
    """
    varying: frozenset[str] = frozenset()
    """Columns besides ``number`` whose values differ between the rows of one trial."""
    most_rows: int = MOST_EPOCHS
    """Maximum number of rows in one trial's file; files that declare more are not read."""
    most_bytes: int = 4 << 30
    """Maximum size of one trial's file as a table in memory, in bytes."""

    def require_complete(self) -> None:
        """Require the columns that are read for every kind.

        Raises:
            ValueError: if columns are missing; it names them.
        """
        names = {column.name for column in self.at()}
        measured = [column.name for column in MEASURED_COLUMNS]
        if missing := [name for name in (*EVERY_KIND, *measured, self.number) if name not in names]:
            raise ValueError(f"expected the columns that every kind has; missing: {', '.join(missing)}")

    def at(self, version: int | None = None) -> tuple[Column, ...]:
        """Return the columns of a schema version (None: the current one).

        Columns that are older than the kind's first release are in every version.

        Raises:
            ValueError: if a column was added in a release without a schema version.
        """
        first = min(map(release_order, self.releases.values()))
        unlisted = [
            c.name for c in self.columns if c.since not in self.releases.values() and release_order(c.since) > first
        ]
        if unlisted:
            raise ValueError(
                f"expected a schema version for every release that added columns; missing for columns {unlisted}"
            )
        later = {release for number, release in self.releases.items() if version is not None and number > version}
        return tuple(column for column in self.columns if column.since not in later)
