"""The compacted index: a file per kind with the rows of many trials.

``compact/CURRENT.json`` refers to one file per kind. All of ``compact/`` can be deleted at any time: trial files are
the source of truth, and only take longer to read.
"""

import hashlib
import json
from typing import NamedTuple

from pydantic import TypeAdapter

from jobs.errors import Code, DamagedFile, StorageFailure
from jobs.results.layout import COMPACT, CURRENT, compacted_at, trial_id_at, trials_prefix
from jobs.results.limits import Extent, MemoryBudget, usable_memory
from jobs.results.parquet import Read, decode
from jobs.results.records import MOST_BYTES, json_object
from jobs.results.store import Store
from jobs.system.commands import command

_VERSION = 1
_MOST_BYTES = 4 << 30
"""Maximum size of a compacted file; the 14,400 trials of the paper take 2 MB."""
_FEW_TRIALS = 100_000
"""Only the number of trials of a larger index is compared with the list of files, since listing takes time."""
_TIMES_LISTED = 10
"""An index may state this many times the trials that are listed: files may have been removed since."""


class Entry(NamedTuple):
    """The compacted file of one kind."""

    file: str
    sha256: str
    rows: int
    trials: int
    previous: str | None = None
    """The previous file, kept for readers that have already read its name."""


class Index(NamedTuple):
    """The contents of ``CURRENT.json``."""

    entries: dict[str, Entry]
    """The compacted file of each kind."""
    begun: str = ""
    """Changes when a command begins that may run trials again (``compaction.forget_removed``)."""


class UnreadIndex(DamagedFile):
    """An index that cannot be read here and now, but may be valid, and be read by others: it is too large, or a newer
    DeltaSweep wrote it.
    """


_ENTRY = TypeAdapter(Entry)


def read_index(store: Store) -> dict[str, Entry]:
    """Return the entry of each kind's compacted file; empty if nothing is compacted.

    Raises:
        DamagedFile: if ``CURRENT.json`` is invalid.
    """
    return parse(store, index_text(store)).entries


def index_text(store: Store) -> bytes | None:
    """Return the bytes of ``CURRENT.json``; None if it does not exist.

    Raises:
        DamagedFile: if it is not a regular file, or is too large.
    """
    try:
        return store.read_within(CURRENT, MOST_BYTES)
    except FileNotFoundError:
        return None
    except DamagedFile as error:
        compact_again = command("compact", "--results", store.uri)
        raise DamagedFile(
            Code.DAMAGED_INDEX,
            f"{store.uri}/{CURRENT} of the compacted index is not a file. No result is lost: trial files are the "
            f"source of truth. Fix: delete {store.uri}/{COMPACT}, then run {compact_again}",
            file=f"{store.uri}/{CURRENT}",
        ) from error


def parse(store: Store, text: bytes | None) -> Index:
    """Parse the bytes of ``CURRENT.json``; None (no file) gives no entries.

    Raises:
        DamagedFile: if the bytes are invalid.
        UnreadIndex: if they have a newer version.
    """
    if text is None:
        return Index({})
    newer = False
    try:
        record = json_object(text)
        if record["version"] != _VERSION:
            newer = type(record["version"]) is int and record["version"] > _VERSION
            raise ValueError(f"its version is {record['version']}, not {_VERSION}")
        entries = {kind: _ENTRY.validate_python(entry) for kind, entry in record["kinds"].items()}
        for file in {entry.file for entry in entries.values()}:
            if compacted_at(file) is None:
                raise ValueError(f"it refers to {file!r}, which no compaction writes")
        return Index(entries, str(record.get("begun", "")))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise damaged(store, CURRENT, error, UnreadIndex if newer else DamagedFile) from error


def render(entries: dict[str, Entry], begun: str = "") -> bytes:
    """Return the bytes of ``CURRENT.json`` with these contents (``Index``)."""
    kinds = {kind: entry._asdict() for kind, entry in sorted(entries.items())}
    return json.dumps({"version": _VERSION, "begun": begun, "kinds": kinds}, indent=1).encode()


def read_compacted(store: Store, kind: str, columns: list[str] | None = None, *, encoded: bool = False) -> Read | None:
    """Return all compacted rows of a kind, in order of trial id and row number; None if nothing is compacted.

    Args:
        columns: the columns to read; None: all.
        encoded: whether text columns are dictionary-encoded, as in ``encoded_schema``.

    Raises:
        DamagedFile: if the index, or the file that it refers to, is invalid.
        UnreadIndex: if it is too large for this machine's memory, or for the root, or of a newer version.
    """
    entry = read_index(store).get(kind)
    while entry is not None:
        try:
            return _read(store, kind, entry, columns, encoded)
        except FileNotFoundError as error:
            # two compactions may have finished since the name was read
            newer = read_index(store).get(kind)
            if newer == entry:
                raise damaged(store, entry.file, "it is missing, although CURRENT.json refers to it") from error
            entry = newer
    return None


def damaged(store: Store, key: str, why: object, kind: type[DamagedFile] = DamagedFile) -> DamagedFile:
    """Return the error for a file of the index, which explains that no result is lost."""
    reason = " ".join(str(why).split())
    return kind(
        Code.DAMAGED_INDEX,
        f"{store.uri}/{key} of the compacted index cannot be used ({reason}). No result is lost: trial files are the "
        f"source of truth. Fix: run {command('compact', '--results', store.uri)}, or delete {store.uri}/{COMPACT}",
        file=f"{store.uri}/{key}",
    )


def _read(store: Store, kind: str, entry: Entry, columns: list[str] | None, encoded: bool) -> Read:
    _require_listed(store, kind, entry)
    usable = usable_memory()
    try:
        data = store.read_within(entry.file, min(_MOST_BYTES, usable))
    except DamagedFile as error:
        raise damaged(store, entry.file, error, UnreadIndex if usable < _MOST_BYTES else DamagedFile) from error
    found = hashlib.sha256(data).hexdigest()
    if found != entry.sha256:
        raise damaged(store, entry.file, f"its sha256 is {found}, not {entry.sha256}")
    extent = Extent(entry.rows, entry.trials)
    try:
        with MemoryBudget(store.uri).turn() as turn:
            return decode(data, kind, entry.file, columns, encoded=encoded, of_index=extent, turn=turn)
    except DamagedFile as error:
        newer = error.code is Code.NEWER_VERSION
        raise damaged(store, entry.file, error, UnreadIndex if newer else DamagedFile) from error
    except StorageFailure as error:
        if error.code is not Code.OUT_OF_MEMORY:
            raise
        raise damaged(store, entry.file, "this machine has too little memory to read it", UnreadIndex) from error


def _require_listed(store: Store, kind: str, entry: Entry) -> None:
    """Refuse an index of far more trials than the root lists: its limits would follow from an invented number."""
    if entry.trials <= _FEW_TRIALS:
        return
    listed = sum(1 for key in store.survey(trials_prefix(kind)).keys if trial_id_at(key, kind) is not None)
    if entry.trials > _TIMES_LISTED * listed:
        raise damaged(
            store, CURRENT, f"it states {entry.trials:,} {kind} trials; the root lists {listed:,}", UnreadIndex
        )
