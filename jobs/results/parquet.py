"""Tables of results as Parquet bytes, and back, with everything checked that a reader relies on."""

import io
from enum import StrEnum

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.errors import DamagedFile
from jobs.results.schema import KIND_KEY, VERSION_KEY, numbering, schema, version

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
    """Written with another version of the schema."""
    WRONG_CONTENT = "wrong-content"
    """Readable, but not the rows of the trial that its name says."""
    DUPLICATE_ROWS = "duplicate-rows"
    """Two rows of one number (such as the epoch) for one trial."""
    FOREIGN = "foreign"
    """A file where only results may lie, or in place of a folder."""
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
    UNPLANNED = "unplanned"
    """A result that no planned trial asks for."""
    LEFTOVER_CHECKPOINT = "leftover-checkpoint"
    """Of a trial that is done."""
    STALE_TEMPORARY = "stale-temporary"
    """Left by a killed process."""

    @property
    def harmless(self) -> bool:
        """Information: nothing is wrong with any result."""
        return self in (Problem.MIXED, Problem.UNPLANNED, Problem.LEFTOVER_CHECKPOINT, Problem.STALE_TEMPORARY)


class DamagedResult(DamagedFile):
    """A file of results that cannot be used; ``problem`` says in which way."""

    def __init__(self, problem: Problem, message: str) -> None:
        super().__init__(message)
        self.problem = problem


def encode(table: pa.Table) -> bytes:
    """One Parquet file in memory, every page with a checksum."""
    compression = "zstd" if len(table) >= _WORTH_PACKING else "snappy"
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression=compression, row_group_size=_ROW_GROUP, write_page_checksum=True)
    return buffer.getvalue()


def decode(data: bytes, kind: str, path: str, columns: list[str] | None = None, *, encoded: bool = False) -> pa.Table:
    """Bytes of a Parquet file to a table with exactly the columns of the kind's schema, or those asked for.

    Args:
        encoded: text as ``encoded_schema`` has it.

    Raises:
        DamagedResult: with ``path``, when it is not Parquet, or of another version or kind, or has other columns.
    """
    try:
        file = pq.ParquetFile(
            pa.BufferReader(data),
            page_checksum_verification=True,
            read_dictionary=_texts(schema(kind)) if encoded else None,
        )
        metadata = file.schema_arrow.metadata or {}
        _require_version(metadata, kind, path)
        _require_columns(_decoded(file.schema_arrow) if encoded else file.schema_arrow, kind, path)
        _require_kind(metadata, kind, path)
        whole = encoded_schema(kind) if encoded else schema(kind)
        wanted = pa.schema([whole.field(name) for name in columns or whole.names], whole.metadata)
        # small files are read many at a time, so by one thread each
        table = file.read(wanted.names, use_threads=len(data) > 1_000_000)
        return pa.Table.from_arrays(table.select(wanted.names).columns, schema=wanted)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedResult(
            Problem.TORN,
            f"{path} is not a readable Parquet file ({error}); move it away and resume: its trial runs again",
        ) from error


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


def _decoded(found: pa.Schema) -> pa.Schema:
    """The schema of a file that is read with dictionaries, as it was written."""
    fields = [field.with_type(field.type.value_type) if field.type == _DICTIONARY else field for field in found]
    return pa.schema(fields, found.metadata)


def decode_trial(data: bytes, kind: str, trial_id: str, path: str) -> pa.Table:
    """The rows of one trial's file, in order.

    Raises:
        DamagedResult: as ``decode``, and when it holds another trial, or two rows of one number.
    """
    table = decode(data, kind, path)
    found = pc.unique(table["trial_id"]).to_pylist()
    if found != [trial_id]:
        raise DamagedResult(
            Problem.WRONG_CONTENT,
            f"{path} holds the trial {found}, not the one its name says; move it away and resume",
        )
    name = numbering(kind)
    numbers = table[name].to_pylist()
    if len(set(numbers)) < len(numbers):
        raise DamagedResult(
            Problem.DUPLICATE_ROWS,
            f"a result has one row for each {name}; {path} has {name} {numbers}; move it away and resume",
        )
    return table if numbers == sorted(numbers) else table.sort_by(name)


def _require_version(metadata: dict[bytes, bytes], kind: str, path: str) -> None:
    expected, found = str(version(kind)), _said(metadata, VERSION_KEY)
    if found not in ("", expected):
        older = found.isdigit() and int(found) < int(expected)
        raise DamagedResult(
            Problem.WRONG_VERSION,
            f"{path} has version {found} of the {kind} schema, this DeltaSweep reads version {expected}; "
            f"it was written by {'an older' if older else 'a newer'} DeltaSweep. Read this root with that one, "
            "or move the file away and resume: its trial runs again",
        )


def _require_kind(metadata: dict[bytes, bytes], kind: str, path: str) -> None:
    found, version = _said(metadata, KIND_KEY), _said(metadata, VERSION_KEY)
    if found != kind or not version:
        raise DamagedResult(
            Problem.WRONG_CONTENT,
            f"{path} is Parquet, but does not say that it is a {kind} result of DeltaSweep (kind {found or 'none'}, "
            f"schema {version or 'none'}); move it away. If a trial of that name is wanted, resume runs it again",
        )


def _said(metadata: dict[bytes, bytes], key: str) -> str:
    return metadata.get(key.encode(), b"").decode(errors="replace")


def _require_columns(found: pa.Schema, kind: str, path: str) -> None:
    expected = schema(kind)
    missing = [name for name in expected.names if name not in found.names]
    unknown = [name for name in found.names if name not in expected.names]
    other = [name for name in expected.names if name in found.names and found.field(name) != expected.field(name)]
    if not (missing or unknown or other):
        return
    raise DamagedResult(
        Problem.WRONG_CONTENT,
        f"{path} has not the columns of a {kind} result: missing {missing or 'none'}, unknown {unknown or 'none'}, "
        f"of another type {other or 'none'}; it was written by another version of DeltaSweep or is not a result at "
        "all. Read it with that version, or move it away and resume: its trial runs again",
    )
