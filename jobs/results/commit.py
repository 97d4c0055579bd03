"""Putting a finished trial into the results root: once, whole, by the actor that ran it."""

import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum

import pyarrow as pa

from jobs.provenance import HISTORY_COLUMNS, History, history_of
from jobs.results.layout import conflict_key, trial_key
from jobs.results.parquet import Read, decode_trial, encode, signed
from jobs.results.schema import comparable_columns, numbering, schema, version
from jobs.results.store import Store, require_present

_NETWORK = "network_sha256"


class Committed(StrEnum):
    """What became of a commit. All three leave the trial done."""

    NEW = "new"
    ALREADY_THERE = "already-there"
    CONFLICT = "conflict"


def commit(store: Store, kind: str, rows: Sequence[Mapping[str, object]]) -> Committed:
    """Commit the rows of one trial by create-if-absent.

    When the trial is there already, nothing is overwritten. If the numbers there are others, and both trials ran on
    one and the same kind of device with the same torch and torchvision, the new rows go to ``conflicts/``. Compared is
    what both have: the columns of the version that wrote the standing result.

    NEW means that this call put the result there, also when the storage's reply was lost and the request sent
    again (``Store.create``). A process that was killed after its result went there, and starts over, gets
    ALREADY_THERE: equal numbers are never a conflict, whoever wrote them.

    Args:
        rows: mappings with all columns of the kind's schema, no two of one number (an epoch, for training).

    Raises:
        DamagedFile: when a file that is not this trial's result stands in its place.
        StorageFailure: when the storage fails; the result is there or it is not, and committing again is right.
    """
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema(kind))
    table.validate(full=True)
    (trial_id,) = set(table["trial_id"].to_pylist())
    assert len(table[numbering(kind)].unique()) == len(table), f"{trial_id} has two rows for one {numbering(kind)}"
    return place(store, kind, trial_id, encode(signed(table, kind)), Read(table, version(kind)))


def place(store: Store, kind: str, trial_id: str, data: bytes, rows: Read | None = None) -> Committed:
    """Commit a trial's file as it is; as ``commit``.

    Args:
        rows: what the file holds, where that is known already.
    """
    key = trial_key(kind, trial_id)
    if store.create(key, data):
        return Committed.NEW
    standing = require_present(store, key, "the result of the trial to be committed")
    present = decode_trial(standing, kind, trial_id, f"{store.uri}/{key}")
    new = rows or decode_trial(data, kind, trial_id, f"the result to be put at {store.uri}/{key}")
    if same_numbers(present, new, kind) or not _must_be_equal(present.table, new.table):
        return Committed.ALREADY_THERE
    store.create(conflict_key(kind, trial_id, hashlib.sha256(data).hexdigest()[:16]), data)
    return Committed.CONFLICT


def same_numbers(left: Read, right: Read, kind: str) -> bool:
    """Whether two results of one trial agree in all that both versions have and that is not measured."""
    columns = comparable_columns(kind, min(left.version, right.version))
    tables = [one.table.select(columns).sort_by(numbering(kind)) for one in (left, right)]
    if tables[0].equals(tables[1]):
        return True
    # pandas takes two NaN (the loss of a diverged trial) as equal, Arrow does not
    return bool(tables[0].to_pandas().equals(tables[1].to_pandas()))


def _must_be_equal(left: pa.Table, right: pa.Table) -> bool:
    """Whether the design's promise 1 holds of two results: on one kind of device, by the same torch and torchvision.

    What was imported says nothing of that, and is one result under one name. Of a fine-tuned network that was trained
    again, and became another, the numbers may be others.
    """
    if {*left["origin"].to_pylist(), *right["origin"].to_pylist()} == {"imported"}:
        return True
    if _NETWORK in left.column_names and left[_NETWORK].unique() != right[_NETWORK].unique():
        return False
    ways = [{h.same_bits for h in _histories(table)} for table in (left, right)]
    return ways[0] == ways[1] and len(ways[0]) == 1 and None not in ways[0]


def _histories(table: pa.Table) -> set[History]:
    columns = (table[name].to_pylist() for name in HISTORY_COLUMNS)
    return {history_of(*row) for row in zip(*columns, strict=True)}
