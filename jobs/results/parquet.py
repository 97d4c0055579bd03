"""Encoding of results as Parquet bytes, and decoding with validation of everything that readers rely on."""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.errors import DamagedFile, machine_failure
from jobs.provenance import code_version
from jobs.results.problems import DamagedResult, Problem, torn
from jobs.results.records import reason
from jobs.results.schema import (
    KIND_KEY,
    ROWS_KEY,
    VERSION_KEY,
    WRITER_KEY,
    most_bytes,
    most_rows,
    numbering,
    releases,
    schema,
)
from jobs.results.schema import columns as schema_columns
from jobs.specs.columns import Column

_ROW_GROUP = 122_880
"""Rows per row group, the number that DuckDB processes at a time."""
_WORTH_PACKING = 1_000
"""Minimum rows for zstd. With the 15 rows of a trial it does not reduce the size, and takes twice as long."""
_DICTIONARY = pa.dictionary(pa.int32(), pa.string())
_MAGIC = b"PAR1"
_TRIAL_FOOTER, _INDEX_FOOTER = 1 << 20, 64 << 20
"""Maximum footer sizes in bytes. The footer of a trial takes 20 kB, nearly all of it the schema."""
_MANY_ROWS = 10_000
_PLAIN_BYTES = 1 << 30
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


def rows_digest(table: pa.Table) -> str:
    """Return the sha256 of a table's values, independent of their encoding and division into chunks.

    Only names and values are hashed: types follow from the schema, and versions of Arrow spell them differently.
    """
    hasher = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        hasher.update(f"{name} {len(column)}\n".encode())
        for part in _content(column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()):
            hasher.update(part)
    return hasher.hexdigest()


def _content(array: pa.Array) -> Iterator[bytes]:
    """Yield the validity of values, the lengths of variable-length values, and the values."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if array.null_count:
        yield array.is_valid().to_numpy(zero_copy_only=False).tobytes()
        array = array.drop_null()
    if pa.types.is_list(array.type):
        yield array.value_lengths().to_numpy().astype("<i8").tobytes()
        yield from _content(array.flatten())
    elif pa.types.is_string(array.type) or pa.types.is_binary(array.type):
        values = [value.encode() if isinstance(value, str) else value for value in array.to_pylist()]
        yield repr([len(value) for value in values]).encode()
        yield b"".join(values)
    else:
        values = array.to_numpy(zero_copy_only=False)
        yield values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def looks_whole(data: bytes) -> bool:
    """Return whether bytes have a Parquet file's magic numbers and room for its footer: a quick check, not a proof."""
    if len(data) < 2 * len(_MAGIC) + 4 or not data.startswith(_MAGIC) or not data.endswith(_MAGIC):
        return False
    return _footer_bytes(data) <= len(data) - 2 * len(_MAGIC) - 4


def decode(
    data: bytes,
    kind: str,
    path: str,
    columns: list[str] | None = None,
    *,
    encoded: bool = False,
    of_index: int | None = None,
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
        of_index: the number of rows that a compacted file must have; None: the file of one trial.

    Raises:
        DamagedResult: with ``path``, if it is not Parquet, of a newer version or another kind, does not have the
            columns of its version, or has more rows or bytes than a result of its kind can have.
        StorageFailure: if this machine cannot read it now; the file itself may be valid.
    """
    with _named(path):
        _require_small_footer(data, path, _INDEX_FOOTER if of_index is not None else _TRIAL_FOOTER)
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        footer, found = file.metadata, file.schema_arrow
        metadata = found.metadata or {}
        version = _require_version(metadata, kind, path)
        _require_columns(found, kind, version, path)
        _require_size(footer, kind, path, of_index)
        texts = _texts(schema(kind, version))
        as_dictionary = encoded or _text_bytes(footer, texts) > _PLAIN_BYTES
        if as_dictionary:
            file = pq.ParquetFile(
                pa.BufferReader(data), metadata=footer, page_checksum_verification=True, read_dictionary=texts
            )
        if of_index is None and footer.num_rows > _MANY_ROWS:
            _require_different(file.read([numbering(kind)])[numbering(kind)], kind, path)
        wanted = encoded_schema(kind) if encoded else schema(kind)
        if columns is not None:
            wanted = pa.schema([wanted.field(name) for name in columns], wanted.metadata)
        fills = _fills(kind, version)
        decide = [column.fill_where[0] for name, column in fills.items() if name in wanted.names and column.fill_where]
        there = [name for name in dict.fromkeys([*wanted.names, *decide]) if name not in fills]
        # many small files are read concurrently, so each uses one thread
        table = file.read(there, use_threads=len(data) > 1_000_000)
        if as_dictionary and not encoded:
            _require_short_texts(table, kind, path)
        arrays = [
            _filled(fills[field.name], field.type, table)
            if field.name in fills
            else table[field.name]
            if table.schema.field(field.name).type == field.type
            else table[field.name].cast(field.type)
            for field in wanted
        ]
        return Read(pa.Table.from_arrays(arrays, schema=wanted), version, _said(metadata, ROWS_KEY))


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Convert read errors to ``DamagedResult`` or, if this machine is the cause, to ``StorageFailure``."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        if isinstance(error, DamagedFile):
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


def _require_small_footer(data: bytes, path: str, most: int) -> None:
    """Refuse a footer that is too large for a result, because a footer is parsed as a whole."""
    if data.endswith(_MAGIC) and len(data) > 8 and (found := _footer_bytes(data)) > most:
        raise _oversized(path, f"its footer takes {found:,} bytes; expected at most {most:,}")


def _require_size(footer: pq.FileMetaData, kind: str, path: str, of_index: int | None) -> None:
    """Compare the sizes in a file's metadata with the limits for its kind."""
    if of_index is not None:
        if footer.num_rows != of_index:
            raise _oversized(path, f"it has {footer.num_rows:,} rows; expected {of_index:,}")
        return
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    rows = max(footer.num_rows, sum(group.num_rows for group in groups))
    if rows > most_rows(kind):
        raise _oversized(path, f"it has {rows:,} rows; a {kind} result has at most {most_rows(kind):,}")
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    needed = sum(max(chunk.total_uncompressed_size, 8 * chunk.num_values) for chunk in chunks)
    if needed > most_bytes(kind):
        raise _oversized(path, f"it takes {needed:,} bytes; a {kind} result takes at most {most_bytes(kind):,}")


def _text_bytes(footer: pq.FileMetaData, texts: list[str]) -> int:
    """Return an upper bound on the expanded size of text: each value may be as long as its whole column chunk."""
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    chunks = [(group.num_rows, group.column(number)) for group in groups for number in range(group.num_columns)]
    return sum(rows * chunk.total_uncompressed_size for rows, chunk in chunks if chunk.path_in_schema in texts)


def _require_short_texts(table: pa.Table, kind: str, path: str) -> None:
    """Refuse dictionary-encoded text that would be too large when expanded."""
    needed = 0
    for name in table.column_names:
        for chunk in table[name].chunks:
            if pa.types.is_dictionary(chunk.type) and len(chunk):
                needed += len(chunk) * (pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0)
    if needed > most_bytes(kind):
        raise _oversized(path, f"its text takes {needed:,} bytes; a {kind} result takes at most {most_bytes(kind):,}")


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


def _oversized(path: str, why: str) -> DamagedResult:
    return DamagedResult(
        Problem.WRONG_CONTENT, f"{path} is not a DeltaSweep result: {why}. Fix: move it away and resume", file=path
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


def decode_trial(data: bytes, kind: str, trial_id: str, path: str) -> Read:
    """Decode one trial's file, with its rows in order.

    Raises:
        DamagedResult: as ``decode``, and if it contains another trial, or its rows were changed.
        StorageFailure: as ``decode``.
    """
    read = decode(data, kind, path)
    table = read.table
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
    if read.digest and read.digest != rows_digest(ordered.select(schema(kind, read.version).names)):
        raise DamagedResult(
            Problem.WRONG_CONTENT,
            f"the rows of {path} do not have the sha256 {read.digest} stored in the file: it was changed after it was "
            "written. Fix: restore the original file, or move it away and resume",
            file=path,
        )
    return read._replace(table=ordered)


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
