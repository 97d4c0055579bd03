"""Putting a finished trial into the results root: once, whole, by the actor that ran it."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.errors import ResultsConflict
from jobs.results.layout import conflict_key, pin_key, trial_key
from jobs.results.reader import decode
from jobs.results.schema import comparable_columns, schema
from jobs.results.store import Store


class Committed(StrEnum):
    """What became of a commit. All three leave the trial done."""

    NEW = "new"
    ALREADY_THERE = "already-there"
    CONFLICT = "conflict"


def commit(store: Store, kind: str, rows: Sequence[Mapping[str, object]]) -> Committed:
    """Commit the rows of one trial by create-if-absent.

    When the trial is there already, nothing is overwritten. If the numbers there are others, from the
    same kind of device, the new rows go to ``conflicts/``.

    Args:
        rows: one mapping an evaluation, with all columns of the kind's schema.
    """
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema(kind))
    table.validate(full=True)
    (trial_id,) = set(table["trial_id"].to_pylist())
    key = trial_key(kind, trial_id)
    data = encode(table)
    if store.create(key, data):
        return Committed.NEW
    present = decode(store.read(key), kind, f"{store.uri}/{key}")
    if _same_numbers(present, table, kind) or _device_kinds(present) != _device_kinds(table):
        return Committed.ALREADY_THERE
    store.create(conflict_key(kind, trial_id, hashlib.sha256(data).hexdigest()[:16]), data)
    return Committed.CONFLICT


def pin(store: Store, what: str, name: str, sha256: str) -> None:
    """Hold that ``name`` stands for one digest in this root; the first commit decides which.

    Args:
        what: ``sources`` or ``datasets``.

    Raises:
        ResultsConflict: when the root knows another digest under the name.
    """
    key = pin_key(what, name)
    if not store.create(key, json.dumps({"name": name, "sha256": sha256}).encode()):
        require_pin(store, what, name, sha256)


def require_pin(store: Store, what: str, name: str, sha256: str) -> None:
    """Hold ``name`` against what this root has pinned, if it has; nothing is written.

    Raises:
        ResultsConflict: when the root knows another digest under the name.
    """
    try:
        pinned = json.loads(store.read(pin_key(what, name)))["sha256"]
    except FileNotFoundError:
        return
    if pinned != sha256:
        raise ResultsConflict(
            f"in {store.uri} the name {name!r} among the {what} stands for sha256 {pinned}, here it stands for "
            f"{sha256}; results of both under one name could not be told apart. Use the first file again, or "
            "another results root"
        )


def encode(table: pa.Table) -> bytes:
    """One Parquet file in memory."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _same_numbers(left: pa.Table, right: pa.Table, kind: str) -> bool:
    columns = comparable_columns(kind)
    frames = [table.select(columns).sort_by("epoch").to_pandas() for table in (left, right)]
    # pandas takes two NaN (the loss of a diverged trial) as equal, Arrow does not
    return bool(frames[0].equals(frames[1]))


def _device_kinds(table: pa.Table) -> set[str]:
    return set(table["device_kind"].to_pylist())
