"""Later releases, made by a test: the schema of a kind with columns that no release has yet."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from jobs.results import Role
from jobs.results import schema as schemas_of_kinds
from jobs.results.schema import _KINDS, Column

RELEASE = "99.{}.0"
NOTE = Column("note", pa.string(), Role.MEASURED, "what a test adds", nullable=True)
COUNT = Column("count", pa.int64(), Role.NUMBER, "how many", "images", fill=7)
WORD = Column("word", pa.string(), Role.NUMBER, "which", fill="none")


@contextmanager
def grown(kind: str, *releases: Sequence[Column]) -> Iterator[None]:
    """Code of so many releases later, each of which added these columns to the kind's schema."""
    before = after = _KINDS[kind]
    for number, columns in enumerate(releases):
        release = RELEASE.format(number)
        added = tuple(column._replace(since=release) for column in columns)
        next_version = {max(after.releases) + 1: release}
        after = after._replace(columns=(*after.columns, *added), releases={**after.releases, **next_version})
    _KINDS[kind] = after
    schemas_of_kinds.cache_clear()
    try:
        yield
    finally:
        _KINDS[kind] = before
        schemas_of_kinds.cache_clear()
