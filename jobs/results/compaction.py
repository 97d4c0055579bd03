"""Compaction: the rows of many trial files in one, so that reading them takes no time."""

import hashlib
import uuid
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pyarrow as pa

from jobs.errors import Code, DamagedFile, StorageFailure
from jobs.results.index import Entry, index_text, parse, read_compacted, render
from jobs.results.layout import COMPACT, CURRENT, compact_key, compacted_at, generation_name
from jobs.results.parquet import Read, encode
from jobs.results.reader import with_files
from jobs.results.schema import schema, version
from jobs.results.store import Store

KEPT_FOR = timedelta(days=1)
"""Generations that nothing names any more, and temporary files, are removed at this age."""
_SWAPS = 20


class Compaction(NamedTuple):
    """What became of a compaction."""

    trials: int
    """Trials that the index covers now."""
    rows: int
    written: bool
    """False: the index had them all already."""


def compact(store: Store, kind: str) -> Compaction:
    """Bring all finished trials of a kind into the index.

    The file of a new generation is written whole, then ``CURRENT.json`` is swapped for one that names it; readers see
    the old or the new one. A file of an older version of the schema is made again, too. Killed between any two steps
    it leaves at worst a file that nothing names. Any number of compactors may run at once, and results may be
    committed meanwhile. Trial files are never touched; a damaged index is replaced. The generation before is kept,
    older ones go after ``KEPT_FOR``.

    Raises:
        DamagedFile: naming a trial file that cannot be read, or what stands in place of ``CURRENT.json`` and is no
            file; the index stays as it was.
        StorageFailure: when the storage fails; the same holds.
    """
    _remove_stale(store)
    index_text(store)  # a folder in its place cannot be swapped: refused before anything is written
    compacted = _usable(store, kind)
    table = with_files(store, kind, compacted and compacted.table, schema(kind).names)
    trials = len(_trials(table))
    if compacted and compacted.version == version(kind) and _trials(compacted.table) == _trials(table):
        return Compaction(trials, len(table), written=False)
    data = encode(table)
    key = compact_key(generation_name(datetime.now(UTC), uuid.uuid4().hex[:8]), kind)
    store.create(key, data)
    _publish(store, kind, Entry(key, hashlib.sha256(data).hexdigest(), len(table), trials))
    _remove_generations(store)
    return Compaction(trials, len(table), written=True)


def _usable(store: Store, kind: str) -> Read | None:
    """What the index holds; None when there is none, or it is damaged or a newer DeltaSweep's, and is made anew."""
    try:
        return read_compacted(store, kind)
    except DamagedFile:
        return None


def _trials(table: pa.Table) -> set[str]:
    return set(table["trial_id"].unique().to_pylist())


def _publish(store: Store, kind: str, entry: Entry) -> None:
    """Name the new file in ``CURRENT.json``; what other compactors named for other kinds stays.

    Of two compactors of one kind the last to swap stands. It may cover less, never wrongly.
    """
    for _ in range(_SWAPS):
        text = index_text(store)
        try:
            entries = parse(store, text)
        except DamagedFile:
            entries = {}
        present = entries.get(kind)
        new = entry._replace(previous=present.file if present else None)
        if store.swap(CURRENT, text, render({**entries, kind: new})):
            return
    raise StorageFailure(
        Code.STORAGE,
        f"{store.uri}/{CURRENT} was changed by others {_SWAPS} times in a row while it was to be swapped; "
        "nothing is lost. Compact again when fewer do so at once",
        file=f"{store.uri}/{CURRENT}",
    )


def _remove_generations(store: Store) -> None:
    """Remove compacted files that neither are named nor were last time, once they are old.

    A young one may be that of another compactor which has not named it yet. What has another name is somebody else's.
    """
    entries = parse(store, index_text(store)).values()
    named = {entry.file for entry in entries} | {entry.previous for entry in entries}
    before = datetime.now(UTC) - KEPT_FOR
    for key in list(store.keys(COMPACT)):
        begun = compacted_at(key)
        if begun is not None and begun < before and key not in named:
            store.delete(key)


def _remove_stale(store: Store) -> None:
    for key in store.stale(KEPT_FOR):
        store.delete(key)
