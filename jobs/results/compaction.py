"""Compaction: merging the rows of many trial files into one file that is fast to read."""

import hashlib
import uuid
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from jobs.errors import Code, DamagedFile, StorageFailure
from jobs.kind import kinds
from jobs.results.index import (
    Entry,
    Index,
    UnreadIndex,
    index_text,
    parse,
    read_compacted,
    read_index,
    render,
)
from jobs.results.layout import COMPACT, CURRENT, compact_key, compacted_at, generation_name
from jobs.results.parquet import Read, encode
from jobs.results.reader import done, trial_files, with_files
from jobs.results.schema import schema, version
from jobs.results.store import Store

KEPT_FOR = timedelta(days=1)
"""Generations that are no longer referenced, and temporary files, are removed at this age."""
_SWAPS = 20


class Compaction(NamedTuple):
    """The outcome of a compaction."""

    trials: int
    """Number of trials in the index now."""
    rows: int
    written: bool
    """False: the index already contained all trials."""


def compact(store: Store, kind: str) -> Compaction:
    """Add all finished trials of a kind to the index.

    The file of a new generation is written completely, then ``CURRENT.json`` is swapped for one that refers to it;
    readers see either the old or the new one. A file with an older version of the schema is rewritten, too. If the
    process is killed between any two steps, at worst an unreferenced file remains. Any number of compactions may run
    concurrently, and results may be committed in the meantime. Trial files are never modified; a damaged index is
    replaced. The previous generation is kept, older ones are removed after ``KEPT_FOR``.

    Raises:
        DamagedFile: naming a trial file that cannot be read, or ``CURRENT.json`` if it is not a file; the index is
            unchanged.
        StorageFailure: if the storage fails; the index is unchanged.
    """
    _remove_stale(store)
    for _ in range(_SWAPS):
        text = index_text(store)
        before = _readable(store, text)
        files = trial_files(store, kind)
        compacted = _usable(store, kind)
        table = with_files(store, kind, files, compacted and compacted.table, schema(kind).names)
        if before is None:
            # not before all files were read, so that a compaction that fails changes nothing; then they are read again,
            # because only from now on a command that begins can say that they may have been removed
            store.swap(CURRENT, text, render({}, uuid.uuid4().hex))
            continue
        trials = _trials(table)
        if compacted and compacted.version == version(kind) and _trials(compacted.table) == trials:
            return Compaction(len(trials), len(table), written=False)
        if _publish(store, kind, table, before.entries.get(kind), before.begun):
            _remove_generations(store)
            return Compaction(len(trials), len(table), written=True)
    raise _busy(store)


def forget_removed(store: Store) -> None:
    """Remove trials without a file from the index, before any of them runs again under the same id: its new rows, which
    may differ, would otherwise never be read. Compactions that have read files before are kept from publishing them.

    A damaged index, of which nothing is read, is left as it is. One that is too large to read now, or that a newer
    DeltaSweep wrote, is no longer referred to, since others may read it.

    Raises:
        StorageFailure: if the storage fails; the index is unchanged.
    """
    _stop_compactions(store)
    for kind in kinds():
        for _ in range(_SWAPS):
            present = None
            try:
                present = read_index(store).get(kind)
                compacted = read_compacted(store, kind, ["trial_id"], encoded=True)
                if present is None or compacted is None or not (_trials(compacted.table) - done(store, kind)):
                    break
                whole = read_compacted(store, kind)
            except UnreadIndex:
                if _refer(store, kind, present, None):
                    break
                continue
            except DamagedFile:
                break
            standing = pa.array(sorted(done(store, kind)), pa.string())
            if whole and _publish(
                store, kind, whole.table.filter(pc.is_in(whole.table["trial_id"], standing)), present
            ):
                break
        else:
            raise _busy(store)


def _stop_compactions(store: Store) -> None:
    """Keep compactions that run now from publishing what they have read, by a new ``begun``.

    Without a readable ``CURRENT.json`` there is nothing to do: a compaction writes one, and then reads all files again.
    """
    before = None
    for _ in range(_SWAPS):
        try:
            text = index_text(store)
            index = parse(store, text)
        except UnreadIndex:
            index = Index({})
        except DamagedFile:
            return
        if text is None or before not in (None, index.begun):
            return  # another launch, which began after this one, has changed it
        if store.swap(CURRENT, text, render(index.entries, uuid.uuid4().hex)):
            return
        before = index.begun
    raise _busy(store)


def _readable(store: Store, text: bytes | None) -> Index | None:
    """Return the contents of ``CURRENT.json``; None if it does not exist or cannot be read."""
    try:
        return None if text is None else parse(store, text)
    except DamagedFile:
        return None


def _usable(store: Store, kind: str) -> Read | None:
    """Return the contents of the index; None if it must be rebuilt: none exists, or it is damaged or from a newer
    DeltaSweep.
    """
    try:
        return read_compacted(store, kind)
    except DamagedFile:
        return None


def _trials(table: pa.Table) -> set[str]:
    return set(table["trial_id"].unique().to_pylist())


def _publish(store: Store, kind: str, table: pa.Table, before: Entry | None, begun: str | None = None) -> bool:
    """Write a new generation and refer to it in ``CURRENT.json``, whose entries for other kinds stay.

    Args:
        before: the entry that was there when the rows were read.
        begun: ``Index.begun`` when they were read; None: they are all from ``before``.

    Returns:
        False: either has changed since, so that the rows may be those of files that were removed meanwhile.
    """
    if not _stands(_current(store)[1], kind, before, begun):
        return False  # before a whole generation is written for nothing
    data = encode(table)
    key = compact_key(generation_name(datetime.now(UTC), uuid.uuid4().hex[:8]), kind)
    store.create(key, data)
    new = Entry(key, hashlib.sha256(data).hexdigest(), len(table), len(_trials(table)), before and before.file)
    return _refer(store, kind, before, new, begun)


def _refer(store: Store, kind: str, before: Entry | None, entry: Entry | None, begun: str | None = None) -> bool:
    """Refer to another compacted file of a kind in ``CURRENT.json``, or to none.

    Args:
        before: the entry that was there.
        begun: ``Index.begun`` as it was; None: it may have changed.

    Returns:
        False: either has changed since.
    """
    for _ in range(_SWAPS):
        text, index = _current(store)
        if not _stands(index, kind, before, begun):
            return False
        others = {name: of for name, of in index.entries.items() if name != kind}
        entries = others if entry is None else {**others, kind: entry}
        if store.swap(CURRENT, text, render(entries, index.begun)):
            return True
    raise _busy(store)


def _current(store: Store) -> tuple[bytes | None, Index]:
    """Return the bytes of ``CURRENT.json`` and its contents; none if it cannot be parsed."""
    text = index_text(store)
    try:
        return text, parse(store, text)
    except DamagedFile:
        return text, Index({})


def _stands(index: Index, kind: str, before: Entry | None, begun: str | None) -> bool:
    """Return whether the index still has this entry of a kind and this ``begun`` (None: any)."""
    return index.entries.get(kind) == before and begun in (None, index.begun)


def _busy(store: Store) -> StorageFailure:
    return StorageFailure(
        Code.STORAGE,
        f"{store.uri}/{CURRENT} was changed by other processes {_SWAPS} times in a row while it was being swapped; "
        "nothing is lost. Fix: compact again when fewer compactions run at once",
        file=f"{store.uri}/{CURRENT}",
    )


def _remove_generations(store: Store) -> None:
    """Remove compacted files that neither the current nor the previous entries refer to, once they are old enough.

    A recent file may belong to another compaction that has not published it yet. Files whose names do not match the
    pattern of compacted files are left alone.
    """
    entries = read_index(store).values()
    named = {entry.file for entry in entries} | {entry.previous for entry in entries}
    before = datetime.now(UTC) - KEPT_FOR
    for key in list(store.keys(COMPACT)):
        begun = compacted_at(key)
        if begun is not None and begun < before and key not in named:
            store.delete(key)


def _remove_stale(store: Store) -> None:
    for key in store.stale(KEPT_FOR):
        store.delete(key)
