"""Tables of results as Parquet bytes, and back, with everything checked that a reader relies on."""

import io
from enum import StrEnum
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.errors import Code, DamagedFile
from jobs.provenance import code_version
from jobs.results.schema import KIND_KEY, VERSION_KEY, WRITER_KEY, numbering, releases, schema
from jobs.results.schema import columns as schema_columns

_ROW_GROUP = 122_880
"""DuckDB works through a file in groups of this many rows."""
_WORTH_PACKING = 1_000
"""Rows. The file of a trial with its 15 is as large by zstd, which takes twice as long to write it."""
_DICTIONARY = pa.dictionary(pa.int32(), pa.string())


class Problem(StrEnum):
    """What can be wrong, or worth knowing, about a file of a results root."""

    TORN = "torn"
    """Not a readable file of its format: cut short, altered, or something else altogether."""
    WRONG_VERSION = "wrong-version"
    """Of a version of the schema that this DeltaSweep does not read: a newer one wrote it, or none did."""
    WRONG_CONTENT = "wrong-content"
    """Readable, but not the rows of the trial that its name says."""
    DUPLICATE_ROWS = "duplicate-rows"
    """Two rows of one number (such as the epoch) for one trial."""
    FOREIGN = "foreign"
    """What DeltaSweep has not put there: a name that it does not give, a file in place of a folder, a link, a pipe."""
    MISNAMED = "misnamed"
    """A result under a name or in a folder where nobody looks for it."""
    CONFLICT = "conflict"
    """Other numbers under the id of a finished trial."""
    OTHER_DIGEST = "other-digest"
    """Made with other weights or data than the root has pinned under their name."""
    UNREADABLE_RECORD = "unreadable-record"
    """A failure, launch, study or pin that cannot be read."""
    DAMAGED_INDEX = "damaged-index"
    """The compacted files, or what names them; they can be made again."""
    WITHOUT_FILE = "without-file"
    """In the compacted index, but the trial's own file is gone: the trial is not done, its rows are not read."""
    WITHOUT_WEIGHTS = "without-weights"
    """Of a trial that made a source: the source's weights are gone."""
    MIXED = "mixed"
    """Of a trial that ran on several kinds of device, or by several versions of torch."""
    OLDER_NUMERICS = "older-numerics"
    """Made before numbers of its kind were changed on purpose: it is compared only with its like."""
    UNPLANNED = "unplanned"
    """A result that no planned trial asks for."""
    LEFTOVER_CHECKPOINT = "leftover-checkpoint"
    """Of a trial that is done."""
    STALE_TEMPORARY = "stale-temporary"
    """Left by a killed process."""

    @property
    def harmless(self) -> bool:
        """Information: nothing is wrong with any result."""
        return self in (
            Problem.MIXED,
            Problem.OLDER_NUMERICS,
            Problem.UNPLANNED,
            Problem.LEFTOVER_CHECKPOINT,
            Problem.STALE_TEMPORARY,
        )


class DamagedResult(DamagedFile):
    """A file of results that cannot be used; ``problem`` says in which way."""

    def __init__(
        self, problem: Problem, message: str, *, file: object = "", key: str = "", newer: bool = False
    ) -> None:
        """
        Args:
            file, key: as of every expected error.
            newer: whether a newer DeltaSweep wrote the file, which is then not damaged.
        """
        super().__init__(Code.NEWER_VERSION if newer else Code.DAMAGED_RESULT, message, file=file, key=key)
        self.problem = problem


class Read(NamedTuple):
    """What a file of results holds."""

    table: pa.Table
    """With the columns that were asked for, as today's schema has them."""
    version: int
    """Of the schema, that the file was written with: later columns are filled."""


def encode(table: pa.Table) -> bytes:
    """One Parquet file in memory, every page with a checksum. It says which DeltaSweep wrote it."""
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), WRITER_KEY: code_version()})
    compression = "zstd" if len(table) >= _WORTH_PACKING else "snappy"
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression=compression, row_group_size=_ROW_GROUP, write_page_checksum=True)
    return buffer.getvalue()


def decode(data: bytes, kind: str, path: str, columns: list[str] | None = None, *, encoded: bool = False) -> Read:
    """Bytes of a Parquet file, of any version of the kind's schema up to today's, to a table.

    It has exactly the columns of today's schema, or those asked for.

    Args:
        encoded: text as ``encoded_schema`` has it.

    Raises:
        DamagedResult: with ``path``, when it is not Parquet, or of a newer version or another kind, or has other
            columns than its version has.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        found = file.schema_arrow
        version = _require_version(found.metadata or {}, kind, path)
        _require_columns(found, kind, version, path)
        if encoded:
            file = pq.ParquetFile(
                pa.BufferReader(data),
                metadata=file.metadata,
                page_checksum_verification=True,
                read_dictionary=_texts(schema(kind, version)),
            )
        wanted = encoded_schema(kind) if encoded else schema(kind)
        if columns is not None:
            wanted = pa.schema([wanted.field(name) for name in columns], wanted.metadata)
        fills = _fills(kind, version)
        # small files are read many at a time, so by one thread each
        table = file.read([name for name in wanted.names if name not in fills], use_threads=len(data) > 1_000_000)
        arrays = [
            _filled(fills[field.name], field.type, len(table)) if field.name in fills else table[field.name]
            for field in wanted
        ]
        return Read(pa.Table.from_arrays(arrays, schema=wanted), version)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedResult(
            Problem.TORN,
            f"{path} is not a readable Parquet file ({error}); move it away and resume: its trial runs again",
            file=path,
        ) from error


def _fills(kind: str, version: int) -> dict[str, object]:
    """The columns that came after a version of a kind's schema, each with what older files have in its place."""
    there = set(schema(kind, version).names)
    return {column.name: column.fill for column in schema_columns(kind) if column.name not in there}


def _filled(value: object, kind: pa.DataType, rows: int) -> pa.Array:
    """A column that the file's version had not yet."""
    if value is None:
        return pa.nulls(rows, kind)
    text = kind == _DICTIONARY
    filled = pa.repeat(pa.scalar(value, pa.string() if text else kind), rows)
    return filled.dictionary_encode() if text else filled


def encoded_schema(kind: str) -> pa.Schema:
    """The schema with text as dictionaries: what repeats in many rows (a recipe, a digest, a host) is kept once.

    All columns of 14,400 trials are read in about half the time, and kept in a quarter of the memory.
    """
    whole = schema(kind)
    fields = [whole.field(name).with_type(_DICTIONARY) for name in _texts(whole)]
    for field in fields:
        whole = whole.set(whole.get_field_index(field.name), field)
    return whole


def _texts(plain: pa.Schema) -> list[str]:
    return [field.name for field in plain if pa.types.is_string(field.type)]


def decode_trial(data: bytes, kind: str, trial_id: str, path: str) -> Read:
    """The rows of one trial's file, in order.

    Raises:
        DamagedResult: as ``decode``, and when it holds another trial, or two rows of one number.
    """
    table, version = decode(data, kind, path)
    found = pc.unique(table["trial_id"]).to_pylist()
    if found != [trial_id]:
        raise DamagedResult(
            Problem.WRONG_CONTENT,
            f"{path} holds the trial {found}, not the one its name says; move it away and resume",
            file=path,
            key="trial_id",
        )
    name = numbering(kind)
    numbers = table[name].to_pylist()
    if len(set(numbers)) < len(numbers):
        raise DamagedResult(
            Problem.DUPLICATE_ROWS,
            f"a result has one row for each {name}; {path} has {name} {numbers}; move it away and resume",
            file=path,
            key=name,
        )
    return Read(table if numbers == sorted(numbers) else table.sort_by(name), version)


def _require_version(metadata: dict[bytes, bytes], kind: str, path: str) -> int:
    """The version of the schema that a file says it is of."""
    found, said, readable = _said(metadata, KIND_KEY), _said(metadata, VERSION_KEY), releases(kind)
    number = int(said) if said.isascii() and said.isdigit() and not said.startswith("0") else 0
    if found != kind or not said:
        raise DamagedResult(
            Problem.WRONG_CONTENT,
            f"{path} is Parquet, but does not say that it is a {kind} result of DeltaSweep (kind {found or 'none'}, "
            f"schema {said or 'none'}); move it away. If a trial of that name is wanted, resume runs it again",
            file=path,
        )
    if number > max(readable):
        writer = _said(metadata, WRITER_KEY) or "(it does not say which)"
        raise DamagedResult(
            Problem.WRONG_VERSION,
            f"{path} was written by DeltaSweep {writer}, in version {said} of the {kind} schema; this is DeltaSweep "
            f"{code_version()}, which reads versions up to {max(readable)}. Fix: install the first of these, or later",
            file=path,
            newer=True,
        )
    if number not in readable:
        raise DamagedResult(
            Problem.WRONG_VERSION,
            f"{path} says that it is of version {said} of the {kind} schema, which no release of DeltaSweep wrote; "
            f"expected one of {', '.join(map(str, sorted(readable)))}. Fix: move it away and resume: its trial runs "
            "again",
            file=path,
        )
    return number


def _said(metadata: dict[bytes, bytes], key: str) -> str:
    return metadata.get(key.encode(), b"").decode(errors="replace")


def _require_columns(found: pa.Schema, kind: str, version: int, path: str) -> None:
    """Hold the columns against those of the version that the file says it is of."""
    expected = schema(kind, version)
    if found.equals(expected):  # metadata are not compared
        return
    missing = [name for name in expected.names if name not in found.names]
    unknown = [name for name in found.names if name not in expected.names or found.names.count(name) > 1]
    once = [name for name in expected.names if found.names.count(name) == 1]
    other = [name for name in once if found.field(name) != expected.field(name)]
    if not (missing or unknown or other):  # in another order
        return
    raise DamagedResult(
        Problem.WRONG_CONTENT,
        f"{path} says that it is a {kind} result of version {version} of the schema, and has not the columns of one: "
        f"missing {missing or 'none'}, unknown {unknown or 'none'}, of another type {other or 'none'}. It was changed "
        "since it was written, or is not a result at all. Move it away and resume: its trial runs again",
        file=path,
        key=(missing or unknown or other)[0],
    )
