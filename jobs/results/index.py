"""The compacted index: which file holds the rows of many trials, and those rows.

``compact/CURRENT.json`` names one file a kind. All of ``compact/`` can be deleted at any time: trial files are
the truth, and reading them takes longer, that is all.
"""

import hashlib
import json
from typing import NamedTuple

from pydantic import TypeAdapter

from jobs.errors import Code, DamagedFile
from jobs.results.layout import COMPACT, CURRENT, compacted_at
from jobs.results.parquet import Read, decode
from jobs.results.records import MOST_BYTES, json_object
from jobs.results.store import Store

_VERSION = 1


class Entry(NamedTuple):
    """The compacted file of one kind."""

    file: str
    sha256: str
    rows: int
    trials: int
    previous: str | None = None
    """The file before it, kept for readers that have just read its name."""


_ENTRY = TypeAdapter(Entry)


def read_index(store: Store) -> dict[str, Entry]:
    """Kind to compacted file; empty when nothing is compacted.

    Raises:
        DamagedFile: when ``CURRENT.json`` is not what its name promises.
    """
    return parse(store, index_text(store))


def index_text(store: Store) -> bytes | None:
    """The bytes of ``CURRENT.json``; None when there is none. Raises DamagedFile when it cannot be a file."""
    try:
        return store.read_within(CURRENT, MOST_BYTES)
    except FileNotFoundError:
        return None
    except DamagedFile as error:
        raise DamagedFile(
            Code.DAMAGED_INDEX,
            f"{store.uri}/{CURRENT} of the compacted index is no file. No result is lost: the trial files are the "
            f"truth. Delete {store.uri}/{COMPACT}, then run `deltasweep compact`",
            file=f"{store.uri}/{CURRENT}",
        ) from error


def parse(store: Store, text: bytes | None) -> dict[str, Entry]:
    """The entries that bytes of ``CURRENT.json`` say (None: no file, no entries). Raises DamagedFile."""
    if text is None:
        return {}
    try:
        record = json_object(text)
        if record["version"] != _VERSION:
            raise ValueError(f"its version is {record['version']}, not {_VERSION}")
        entries = {kind: _ENTRY.validate_python(entry) for kind, entry in record["kinds"].items()}
        for file in {entry.file for entry in entries.values()}:
            if compacted_at(file) is None:
                raise ValueError(f"it names {file!r}, which no compaction writes")
        return entries
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise damaged(store, CURRENT, error) from error


def render(entries: dict[str, Entry]) -> bytes:
    """The bytes for ``CURRENT.json`` that say these entries."""
    kinds = {kind: entry._asdict() for kind, entry in sorted(entries.items())}
    return json.dumps({"version": _VERSION, "kinds": kinds}, indent=1).encode()


def read_compacted(store: Store, kind: str, columns: list[str] | None = None, *, encoded: bool = False) -> Read | None:
    """All compacted rows of a kind, in order of trial id and epoch; None when nothing is compacted.

    Args:
        encoded: text as ``encoded_schema`` has it.

    Raises:
        DamagedFile: when the index, or the file it names, is not what it should be.
    """
    entry = read_index(store).get(kind)
    while entry is not None:
        try:
            return _read(store, kind, entry, columns, encoded)
        except FileNotFoundError as error:
            # a compaction may have passed by, twice, since the name was read
            newer = read_index(store).get(kind)
            if newer == entry:
                raise damaged(store, entry.file, "it is not there, though CURRENT.json names it") from error
            entry = newer
    return None


def damaged(store: Store, key: str, why: object) -> DamagedFile:
    """The error that names a file of the index and says why it does not matter much."""
    reason = " ".join(str(why).split())
    return DamagedFile(
        Code.DAMAGED_INDEX,
        f"{store.uri}/{key} of the compacted index cannot be used ({reason}). No result is lost: the trial files are "
        f"the truth. Run `deltasweep compact`, or delete {store.uri}/{COMPACT}",
        file=f"{store.uri}/{key}",
    )


def _read(store: Store, kind: str, entry: Entry, columns: list[str] | None, encoded: bool) -> Read:
    try:
        data = store.read(entry.file)
    except DamagedFile as error:
        raise damaged(store, entry.file, error) from error
    found = hashlib.sha256(data).hexdigest()
    if found != entry.sha256:
        raise damaged(store, entry.file, f"its sha256 is {found}, not {entry.sha256}")
    try:
        return decode(data, kind, entry.file, columns, encoded=encoded, of_index=entry.rows)
    except DamagedFile as error:
        raise damaged(store, entry.file, error) from error
