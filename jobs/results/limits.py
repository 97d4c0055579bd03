"""Limits of results files: what a file takes is known from its metadata, before its contents are read.

Limits of single files do not bound their sum: a ``MemoryBudget`` does, for files that are read together.
"""

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.errors import Code, DamagedFile, StorageFailure
from jobs.results.problems import DamagedResult, Problem
from jobs.results.schema import most_bytes, most_rows
from jobs.system.memory import machine_memory

_LARGE = 64 << 20
"""Bytes from which on a file counts as large."""
_TRIAL_FOOTER, _INDEX_FOOTER = 1 << 20, 64 << 20
"""Maximum footer sizes in bytes. The footer of a trial takes 20 kB, nearly all of it the schema."""


class Extent(NamedTuple):
    """The size of a compacted file, as ``CURRENT.json`` states it."""

    rows: int
    trials: int


class Limit(NamedTuple):
    """What a file may have."""

    rows: int
    size: int
    """Bytes of memory."""
    footer: int
    what: str
    """What is limited, for messages."""


def limit_of(kind: str, of_index: Extent | None) -> Limit:
    """Return the limits of a trial's file (None), or of a compacted file."""
    if of_index is None:
        return Limit(most_rows(kind), most_bytes(kind), _TRIAL_FOOTER, f"a {kind} result")
    size = most_bytes(kind) * max(of_index.trials, 1)
    return Limit(
        most_rows(kind) * of_index.trials, size, _INDEX_FOOTER, f"an index of {of_index.trials:,} {kind} trials"
    )


def usable_memory() -> int:
    """Return the memory that results may take: half of what is available, because readers copy what they return."""
    return machine_memory().free // 2


def require_small_footer(size: int, path: str, limit: Limit) -> None:
    """Refuse a footer that is too large for a result, because a footer is parsed as a whole."""
    if size > limit.footer:
        raise oversized(path, f"its footer takes {size:,} bytes; expected at most {limit.footer:,}")


def require_size(
    footer: pq.FileMetaData, path: str, limit: Limit, of_index: Extent | None, columns: Collection[str]
) -> int:
    """Compare the sizes in a file's metadata with its limits.

    Args:
        columns: the columns that are read from an index; of a trial's file all are counted.

    Returns:
        What they take in memory, in bytes; repeated text counts once.
    """
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    rows = max(footer.num_rows, sum(group.num_rows for group in groups))
    if of_index is not None and rows != of_index.rows:
        raise oversized(path, f"it has {rows:,} rows; expected {of_index.rows:,}")
    if rows > limit.rows:
        raise oversized(path, f"it has {rows:,} rows; {limit.what} has at most {limit.rows:,}")
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    needed: int = sum(
        max(chunk.total_uncompressed_size, 8 * chunk.num_values)
        for chunk in chunks
        if of_index is None or _column(chunk) in columns
    )
    _require_within(needed, "it", path, limit)
    return needed


def text_bytes(footer: pq.FileMetaData, texts: Collection[str]) -> int:
    """Return an upper bound on the expanded size of text: each value may be as long as its whole column chunk."""
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    chunks = [(group.num_rows, group.column(number)) for group in groups for number in range(group.num_columns)]
    return sum(int(rows * chunk.total_uncompressed_size) for rows, chunk in chunks if _column(chunk) in texts)


def _column(chunk: pq.ColumnChunkMetaData) -> str:
    """Return the name of the column of a chunk; the path of a list goes on with those of its elements."""
    return str(chunk.path_in_schema).partition(".")[0]


def require_short_texts(table: pa.Table, path: str, limit: Limit) -> int:
    """Refuse dictionary-encoded text that would be too large when expanded; return its size."""
    needed = 0
    for name in table.column_names:
        for chunk in table[name].chunks:
            if pa.types.is_dictionary(chunk.type) and len(chunk):
                needed += len(chunk) * (pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0)
    _require_within(needed, "its text", path, limit)
    return needed


def _require_within(needed: int, what: str, path: str, limit: Limit) -> None:
    if needed > limit.size:
        raise oversized(path, f"{what} takes {needed:,} bytes; {limit.what} takes at most {limit.size:,}")


def oversized(path: str, why: str) -> DamagedResult:
    return DamagedResult(
        Problem.WRONG_CONTENT, f"{path} is not a DeltaSweep result: {why}. Fix: move it away and resume", file=path
    )


class MemoryBudget:
    """The memory of results that several threads read together: large files one after the other, all within a limit."""

    def __init__(self, uri: str) -> None:
        """Create a budget of the memory that is usable now.

        Args:
            uri: the root, for messages.
        """
        self.alone = threading.RLock()
        """Held by the thread that uses a large file."""
        self._uri, self._most, self._kept = uri, usable_memory(), 0
        self._counting = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator["Turn"]:
        """Use one file, until the end of the context."""
        with ExitStack() as held:
            yield Turn(self, held)

    def keep(self, size: int) -> None:
        """Count what is kept of a file.

        Raises:
            StorageFailure: if it does not fit beside what is kept already.
        """
        with self._counting:
            self._kept += size
        self.require(0)

    def require(self, size: int) -> None:
        """Check that so many bytes fit beside what is kept.

        Raises:
            StorageFailure: if not.
        """
        if self._kept + size > self._most:
            raise StorageFailure(
                Code.OUT_OF_MEMORY,
                f"the results of {self._uri} take more than {self._most:,} bytes together, half of the memory that is "
                "available on this machine; this does not mean that one is damaged. Fix: close other programs or use a "
                "machine with more memory, then try again",
                file=self._uri,
            )


class Turn:
    """The use of one file. Once it turns out to be large, no other large file is used until it ends."""

    def __init__(self, budget: MemoryBudget, held: ExitStack) -> None:
        self._budget, self._held = budget, held

    def read(self, read: Callable[[int], bytes], most: int) -> bytes:
        """Read the file, which may have at most ``most`` bytes.

        Args:
            read: returns the file if it has at most so many bytes, otherwise raises DamagedFile.
        """
        try:
            return read(min(_LARGE, most))
        except DamagedFile:
            if most <= _LARGE:
                raise
        self._held.enter_context(self._budget.alone)
        return read(most)

    def decode(self, size: int, at_most: int) -> None:
        """Announce that the file is decoded now, and takes ``size`` bytes, or ``at_most`` with its text expanded.

        Raises:
            StorageFailure: if it does not fit beside what is kept.
        """
        if at_most > _LARGE:
            self._held.enter_context(self._budget.alone)
        self._budget.require(size)

    def require(self, size: int) -> None:
        """Check that the file fits if it takes ``size`` bytes.

        Raises:
            StorageFailure: if it does not fit beside what is kept.
        """
        self._budget.require(size)
