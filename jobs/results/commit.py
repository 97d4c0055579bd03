"""Committing a finished trial to the results root: once and atomically, by the actor that ran it."""

import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum

import pyarrow as pa

from jobs.provenance import HISTORY_COLUMNS, History, history_of
from jobs.results.layout import conflict_key, trial_key
from jobs.results.parquet import Read, decode_trial, encode, signed
from jobs.results.schema import comparable_columns, most_bytes, numbering, schema, version
from jobs.results.store import Store, require_present

_NETWORK = "network_sha256"


class Committed(StrEnum):
    """The outcome of a commit. In all three cases the trial is done."""

    NEW = "new"
    ALREADY_THERE = "already-there"
    CONFLICT = "conflict"


def commit(store: Store, kind: str, rows: Sequence[Mapping[str, object]]) -> Committed:
    """Commit the rows of one trial by create-if-absent.

    An existing result of the trial is not overwritten. If its numbers differ, and both trials ran on the same device
    kind with the same torch and torchvision, the new rows are written to ``conflicts/``. The comparison covers the
    columns that both results have, that is, those of the schema version that wrote the existing result.

    NEW means that this call created the result, even if the storage's reply was lost and the request was repeated
    (``Store.create``). A process that was killed after creating its result and starts over gets ALREADY_THERE: equal
    numbers are never a conflict, whichever process wrote them.

    Args:
        rows: mappings with all columns of the kind's schema; row numbers (epochs, for training) must be unique.

    Raises:
        DamagedFile: if the existing file is not a result of this trial.
        StorageFailure: if the storage fails; the result either exists or not, and it is safe to commit again.
    """
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema(kind))
    table.validate(full=True)
    (trial_id,) = set(table["trial_id"].to_pylist())
    assert len(table[numbering(kind)].unique()) == len(table), f"{trial_id} has two rows for one {numbering(kind)}"
    return place(store, kind, trial_id, encode(signed(table, kind)), Read(table, version(kind)))


def place(store: Store, kind: str, trial_id: str, data: bytes, rows: Read | None = None) -> Committed:
    """Commit the bytes of a trial's file unchanged; otherwise like ``commit``.

    Args:
        rows: the decoded file, if it is already available.
    """
    key = trial_key(kind, trial_id)
    if store.create(key, data):
        return Committed.NEW
    standing = require_present(store, key, "the existing result of the trial to commit", most_bytes(kind))
    present = decode_trial(standing, kind, trial_id, f"{store.uri}/{key}")
    new = rows or decode_trial(data, kind, trial_id, f"the result to be written to {store.uri}/{key}")
    if same_numbers(present, new, kind) or not _must_be_equal(present.table, new.table):
        return Committed.ALREADY_THERE
    store.create(conflict_key(kind, trial_id, hashlib.sha256(data).hexdigest()[:16]), data)
    return Committed.CONFLICT


def same_numbers(left: Read, right: Read, kind: str) -> bool:
    """Return whether two results of a trial agree in all columns that both versions have, except measured ones."""
    columns = comparable_columns(kind, min(left.version, right.version))
    tables = [part.table.select(columns).sort_by(numbering(kind)) for part in (left, right)]
    if tables[0].equals(tables[1]):
        return True
    # unlike Arrow, pandas treats two NaN (the loss of a diverged trial) as equal
    return bool(tables[0].to_pandas().equals(tables[1].to_pandas()))


def _must_be_equal(left: pa.Table, right: pa.Table) -> bool:
    """Return whether two results must have equal numbers: same device kind, torch and torchvision.

    See docs/decisions/device-kinds.md.

    Imported results do not record these, and must be equal under the same name. If a fine-tuned network was trained
    again with a different outcome, the results of diagnostics on it may differ.
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
