"""Simulated later releases: the schema of a kind with columns that no release has yet."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import pyarrow as pa

from jobs.kind import Kind, kinds
from jobs.results import Role
from jobs.results import schema as schemas_of_kinds
from jobs.specs.columns import Column

RELEASE = "99.{}.0"
NOTE = Column("note", pa.string(), Role.MEASURED, "what a test adds", nullable=True)
COUNT = Column("count", pa.int64(), Role.NUMBER, "how many", "images", fill=7)
WORD = Column("word", pa.string(), Role.NUMBER, "which", fill="none")


@contextmanager
def grown(kind: str, *releases: Sequence[Column]) -> Iterator[None]:
    """Simulate the code of ``len(releases)`` releases later, each of which added columns to the kind's schema."""
    table = cast(dict[str, Kind], kinds())
    before = table[kind]
    after = before.rows
    for number, columns in enumerate(releases):
        release = RELEASE.format(number)
        added = tuple(column._replace(since=release) for column in columns)
        next_version = {max(after.releases) + 1: release}
        after = after._replace(columns=(*after.columns, *added), releases={**after.releases, **next_version})
    table[kind] = replace(before, rows=after)
    schemas_of_kinds.cache_clear()
    try:
        yield
    finally:
        table[kind] = before
        schemas_of_kinds.cache_clear()
