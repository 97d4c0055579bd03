"""Encoding of results as Parquet bytes, and decoding with validation of everything that readers rely on."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.errors import DamagedFile, StorageFailure, machine_failure
from jobs.provenance import code_version
from jobs.results.limits import (
    Extent,
    Limit,
    Turn,
    limit_of,
    require_short_texts,
    require_size,
    require_small_footer,
    text_bytes,
)
from jobs.results.problems import DamagedResult, Problem, torn
from jobs.results.records import reason
from jobs.results.rows_digest import rows_digest
from jobs.results.schema import KIND_KEY, ROWS_KEY, VERSION_KEY, WRITER_KEY, numbering, releases, schema
from jobs.results.schema import columns as schema_columns
from jobs.specs.columns import Column

_ROW_GROUP = 122_880
"""Rows per row group, the number that DuckDB processes at a time."""
_WORTH_PACKING = 1_000
"""Minimum rows for zstd. With the 15 rows of a trial it does not reduce the size, and takes twice as long."""
_DICTIONARY = pa.dictionary(pa.int32(), pa.string())
_MAGIC = b"PAR1"
_MANY_ROWS = 10_000
_PLAIN_BYTES = 64 << 20
"""If text columns could take more bytes than this, their size is checked before they are expanded."""


class Read(NamedTuple):
    """The contents of a results file."""

    table: pa.Table
    """The requested columns, as in the current schema."""
    version: int
    """The schema version of the file; columns added later are filled."""
    digest: str = ""
    """The digest of its rows stored in the file; empty for files written before version 0.3.0."""


def encode(table: pa.Table) -> bytes:
    """Return a Parquet file as bytes, with a checksum for every page and the DeltaSweep version in its metadata."""
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), WRITER_KEY: code_version()})
    compression = "zstd" if len(table) >= _WORTH_PACKING else "snappy"
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression=compression, row_group_size=_ROW_GROUP, write_page_checksum=True)
    return buffer.getvalue()


def signed(table: pa.Table, kind: str) -> pa.Table:
    """Return a trial's rows in order, with their digest in the metadata, which ``decode_trial`` verifies."""
    numbers = table[numbering(kind)].to_pylist()
    ordered = table if numbers == sorted(numbers) else table.sort_by(numbering(kind))  # usually sorted; avoid a copy
    return ordered.replace_schema_metadata({**(table.schema.metadata or {}), ROWS_KEY: rows_digest(ordered)})


def looks_whole(data: bytes) -> bool:
    """Return whether bytes have a Parquet file's magic numbers and room for its footer: a quick check, not a proof."""
    if len(data) < 2 * len(_MAGIC) + 4 or not data.startswith(_MAGIC) or not data.endswith(_MAGIC):
        return False
    return _footer_bytes(data) <= len(data) - 2 * len(_MAGIC) - 4


class _Opened(NamedTuple):
    """A results file whose metadata and sizes have been checked; its contents have not been read."""

    file: pq.ParquetFile
    kind: str
    path: str
    version: int
    digest: str
    of_trial: bool
    """False: it is an index."""
    expands: bool
    """Whether its text is expanded after reading, so that it may not be too long."""
    limit: Limit
    reads: Sequence[str]
    """The columns to read."""
    size: int
    """What these take in memory, in bytes; repeated text counts once."""
    text: int
    """An upper bound on the size of their text."""


def decode(
    data: bytes,
    kind: str,
    path: str,
    columns: list[str] | None = None,
    *,
    encoded: bool = False,
    of_index: Extent | None = None,
    turn: Turn | None = None,
) -> Read:
    """Decode a Parquet file with any version of the kind's schema up to the current one.

    The table has exactly the columns of the current schema, or the requested ones. The memory that it needs is checked
    before its contents are read.

    Args:
        data: the bytes of the file.
        kind: the expected kind.
        path: the path for messages.
        columns: the columns to read; None: all.
        encoded: whether text columns are dictionary-encoded, as in ``encoded_schema``.
        of_index: the size that a compacted file must have; None: the file of one trial.
        turn: its use within the memory of all files that are read together; None: no other is read.

    Raises:
        DamagedResult: with ``path``, if it is not Parquet, of a newer version or another kind, does not have the
            columns of its version, or has more rows or bytes than a result of its kind, or the trials of an index, can
            have.
        StorageFailure: if this machine cannot read it now, or it does not fit into the memory; the file itself may be
            valid.
    """
    wanted = _wanted(kind, columns, encoded)
    with _named(path):
        opened = _opened(data, kind, path, wanted.names, of_index, expands=of_index is None or not encoded)
        return Read(_shaped(opened, _contents(opened, len(data), turn), wanted), opened.version, opened.digest)


def decode_trial(
    data: bytes,
    kind: str,
    trial_id: str,
    path: str,
    columns: list[str] | None = None,
    *,
    encoded: bool = False,
    turn: Turn | None = None,
) -> Read:
    """Decode one trial's file, with its rows in order.

    All columns are read, because the digest in the file covers them, but only the requested ones are returned.

    Args:
        columns, encoded, turn: as in ``decode``.

    Raises:
        DamagedResult: as ``decode``, and if it contains another trial, or its rows were changed.
        StorageFailure: as ``decode``.
    """
    with _named(path):
        opened = _opened(data, kind, path, schema(kind).names)
        table = _ordered(opened, _contents(opened, len(data), turn), trial_id)
        return Read(_shaped(opened, table, _wanted(kind, columns, encoded)), opened.version, opened.digest)


def _wanted(kind: str, columns: list[str] | None, encoded: bool) -> pa.Schema:
    whole = encoded_schema(kind) if encoded else schema(kind)
    return whole if columns is None else pa.schema([whole.field(name) for name in columns], whole.metadata)


def _opened(
    data: bytes,
    kind: str,
    path: str,
    wanted: Sequence[str],
    of_index: Extent | None = None,
    *,
    expands: bool = True,
) -> _Opened:
    """Check a file's metadata and sizes. Text that may be long, or that is not expanded, is read as dictionaries."""
    limit = limit_of(kind, of_index)
    if data.endswith(_MAGIC) and len(data) > 8:
        require_small_footer(_footer_bytes(data), path, limit)
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    footer, found = file.metadata, file.schema_arrow
    metadata = found.metadata or {}
    version = _require_version(metadata, kind, path)
    _require_columns(found, kind, version, path)
    fills = _fills(kind, version)
    decide = [column.fill_where[0] for name, column in fills.items() if name in wanted and column.fill_where]
    reads = [name for name in dict.fromkeys([*wanted, *decide]) if name not in fills]
    size = require_size(footer, path, limit, of_index, reads)
    texts = _texts(schema(kind, version))
    text = text_bytes(footer, [name for name in texts if name in reads])
    if not expands or text > _PLAIN_BYTES:
        file = pq.ParquetFile(
            pa.BufferReader(data), metadata=footer, page_checksum_verification=True, read_dictionary=texts
        )
    digest = _said(metadata, ROWS_KEY)
    return _Opened(file, kind, path, version, digest, of_index is None, expands, limit, reads, size, text)


def _contents(opened: _Opened, size: int, turn: Turn | None = None) -> pa.Table:
    """Read the columns of a file with ``size`` bytes, as they are in the file."""
    file, number = opened.file, numbering(opened.kind)
    if turn is not None:
        turn.decode(opened.size, opened.size + opened.text)
    if opened.of_trial and file.metadata.num_rows > _MANY_ROWS:
        _require_different(file.read([number])[number], opened.kind, opened.path)
    # many small files are read concurrently, so each uses one thread
    table = file.read(opened.reads, use_threads=size > 1_000_000)
    if opened.expands and opened.text > _PLAIN_BYTES:
        text = require_short_texts(table, opened.path, opened.limit)
        if turn is not None:
            turn.require(opened.size + text)
    return table


def _shaped(opened: _Opened, table: pa.Table, wanted: pa.Schema) -> pa.Table:
    """Return the wanted columns, with the types of the current schema; those added later are filled."""
    fills = _fills(opened.kind, opened.version)
    arrays = [
        _filled(fills[field.name], field.type, table)
        if field.name in fills
        else table[field.name]
        if table.schema.field(field.name).type == field.type
        else table[field.name].cast(field.type)
        for field in wanted
    ]
    return pa.Table.from_arrays(arrays, schema=wanted)


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Convert read errors to ``DamagedResult`` or, if this machine is the cause, to ``StorageFailure``."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        if isinstance(error, DamagedFile | StorageFailure):
            raise
        if (failure := machine_failure(error, path)) is not None:
            raise failure from error
        raise torn(path, reason(error)[:500]) from error


def _fills(kind: str, version: int) -> dict[str, Column]:
    """Return the columns added after a version of a kind's schema; they define the values for older files."""
    there = set(schema(kind, version).names)
    return {column.name: column for column in schema_columns(kind) if column.name not in there}


def _footer_bytes(data: bytes) -> int:
    return int.from_bytes(data[-8:-4], "little")


def _require_different(numbers: pa.ChunkedArray, kind: str, path: str) -> None:
    """Refuse repeated row numbers; for many rows this is checked first, because repeated rows compress to almost
    nothing.
    """
    name = numbering(kind)
    if len(pc.unique(numbers)) < len(numbers):
        shown = numbers.slice(0, 20).to_pylist()
        raise DamagedResult(
            Problem.DUPLICATE_ROWS,
            f"expected one row for each {name}; {path} has {len(numbers):,} rows, with {name} {shown}. Fix: move it "
            "away and resume",
            file=path,
            key=name,
        )


def _filled(column: Column, kind: pa.DataType, table: pa.Table) -> pa.Array | pa.ChunkedArray:
    """Return the values of a column that is newer than the file's schema version, with the column's current type."""
    if column.fill is None:
        return pa.nulls(len(table), kind)
    text = kind == _DICTIONARY
    filled = pa.repeat(pa.scalar(column.fill, pa.string() if text else kind), len(table))
    if column.fill_where is not None:
        name, value = column.fill_where
        filled = pc.if_else(pc.equal(table[name].cast(pa.string()), value), filled, None)
    return filled.dictionary_encode() if text else filled


def encoded_schema(kind: str) -> pa.Schema:
    """Return the schema with dictionary-encoded text: values repeated in many rows (recipe, digest, host) are stored
    once.

    For all columns of 14,400 trials, this takes about half the time to read and a quarter of the memory.
    """
    whole = schema(kind)
    fields = [whole.field(name).with_type(_DICTIONARY) for name in _texts(whole)]
    for field in fields:
        whole = whole.set(whole.get_field_index(field.name), field)
    return whole


def _texts(plain: pa.Schema) -> list[str]:
    return [field.name for field in plain if pa.types.is_string(field.type)]


def _ordered(opened: _Opened, table: pa.Table, trial_id: str) -> pa.Table:
    """Return the rows of a trial's file in order, after checking whose they are and that they were not changed."""
    kind, path = opened.kind, opened.path
    found = pc.unique(table["trial_id"]).to_pylist()
    if found != [trial_id]:
        raise DamagedResult(
            Problem.WRONG_CONTENT,
            f"{path} contains the trial {str(found[:3])[:500]}, not the one in its name. Fix: move it away and resume",
            file=path,
            key="trial_id",
        )
    _require_different(table[numbering(kind)], kind, path)
    numbers = table[numbering(kind)].to_pylist()
    ordered = table if numbers == sorted(numbers) else table.sort_by(numbering(kind))
    if opened.digest and opened.digest != rows_digest(ordered.select(schema(kind, opened.version).names)):
        raise DamagedResult(
            Problem.WRONG_CONTENT,
            f"the rows of {path} do not have the sha256 {opened.digest} stored in the file: it was changed after it "
            "was written. Fix: restore the original file, or move it away and resume",
            file=path,
        )
    return ordered


def _require_version(metadata: dict[bytes, bytes], kind: str, path: str) -> int:
    """Return the schema version in a file's metadata, if it can be read."""
    found, said, readable = _said(metadata, KIND_KEY), _said(metadata, VERSION_KEY), releases(kind)
    number = int(said) if said.isascii() and said.isdigit() and not said.startswith("0") else 0
    if found != kind or not said:
        raise DamagedResult(
            Problem.WRONG_CONTENT,
            f"{path} is Parquet, but its metadata do not identify it as a {kind} result of DeltaSweep (kind "
            f"{found or 'none'}, schema {said or 'none'}). Fix: move it away; if a trial of that name is planned, "
            "resume runs it again",
            file=path,
        )
    if number > max(readable):
        writer = _said(metadata, WRITER_KEY) or "(unknown version)"
        raise DamagedResult(
            Problem.WRONG_VERSION,
            f"{path} was written by DeltaSweep {writer} with version {said} of the {kind} schema; this is DeltaSweep "
            f"{code_version()}, which reads versions up to {max(readable)}. Fix: install the version that wrote it, "
            "or later",
            file=path,
            newer=True,
        )
    if number not in readable:
        raise DamagedResult(
            Problem.WRONG_VERSION,
            f"{path} has version {said} of the {kind} schema, which no release of DeltaSweep wrote; expected one of "
            f"{', '.join(map(str, sorted(readable)))}. Fix: move it away and resume; its trial runs again",
            file=path,
        )
    return number


def _said(metadata: dict[bytes, bytes], key: str) -> str:
    return metadata.get(key.encode(), b"").decode(errors="replace")


def _require_columns(found: pa.Schema, kind: str, version: int, path: str) -> None:
    """Compare the columns with those of the file's schema version."""
    expected = schema(kind, version)
    if found.equals(expected):  # ignores metadata
        return
    missing = [name for name in expected.names if name not in found.names]
    unknown = [name for name in found.names if name not in expected.names or found.names.count(name) > 1]
    once = [name for name in expected.names if found.names.count(name) == 1]
    other = [name for name in once if found.field(name) != expected.field(name)]
    if not (missing or unknown or other):  # only the order differs
        return
    raise DamagedResult(
        Problem.WRONG_CONTENT,
        f"{path} should be a {kind} result with version {version} of the schema, but has other columns: missing "
        f"{missing or 'none'}, unknown {unknown or 'none'}, wrong type {other or 'none'}. It was changed after it was "
        "written, or is not a result. Fix: move it away and resume; its trial runs again",
        file=path,
        key=(missing or unknown or other)[0],
    )
