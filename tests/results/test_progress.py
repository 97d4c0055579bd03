"""Progress of a running trial from its checkpoint: of every release, of large headers, and of files that are none."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from jobs.errors import Code, DamagedFile
from jobs.results import LocalStore, Store
from jobs.results.layout import checkpoint_key
from jobs.results.progress import read_progress
from tests.results.support import MemoryStore
from tests.support import refused

ROOTS = Path(__file__).parents[1] / "roots"
TRIAL = "finetune-x-0123456789abcdef"
STATE = {
    "trial_id": TRIAL,
    "epoch": 3,
    "batch": 0,
    "seconds": 12.5,
    "evaluations": [{"epoch": 1, "test_accuracy": 30.0}, {"epoch": 2, "test_accuracy": 40.0}],
    "history": [["a kind"], ["{}"]],
    "host": "worker",
    "tally": {"what": "another release adds"},
}


def put(store: Store, state: Mapping[str, object] | bytes, tensors: bytes = b"\0" * 64) -> str:
    """Write a checkpoint by hand: the length of the header, the header, the tensors."""
    header = (
        json.dumps({"__metadata__": {"state": json.dumps(state)}}).encode() if isinstance(state, Mapping) else state
    )
    data = len(header).to_bytes(8, "little") + header + tensors
    key = checkpoint_key(TRIAL, 3, 0, hashlib.sha256(data).hexdigest()[:16])
    store.create(key, data)
    return key


class Metered(MemoryStore):
    """Counts the bytes that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def read_start(self, key: str, size: int) -> bytes:
        self.asked += size
        return super().read_start(key, size)


def test_what_a_checkpoint_says() -> None:
    store = MemoryStore()
    found = read_progress(store, put(store, STATE))
    assert (found.trial_id, found.epoch, found.batch, found.seconds) == (TRIAL, 3, 0, 12.5)
    assert [row["test_accuracy"] for row in found.evaluations] == [30.0, 40.0]
    assert (found.device_kinds, found.host) == (("a kind",), "worker")


def test_tensors_are_not_read() -> None:
    store = Metered()
    key = put(store, STATE, tensors=b"\0" * 10_000_000)
    read_progress(store, key)
    assert store.asked < 100_000


def test_a_long_header_is_read_whole() -> None:
    store = MemoryStore()
    many = [{"epoch": epoch, "test_accuracy": 50.0} for epoch in range(1, 5000)]
    assert len(read_progress(store, put(store, {**STATE, "evaluations": many})).evaluations) == 4999


@pytest.mark.parametrize("release", ["0.1.0", "0.2.0"])
def test_checkpoints_of_every_release_are_read(release: str) -> None:
    store = LocalStore(ROOTS / release)
    (key,) = store.keys("checkpoints")
    found = read_progress(store, key)
    assert (found.epoch, len(found.evaluations), found.host) == (2, 1, None)
    assert 0 < found.evaluations[0]["test_accuracy"] < 100


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{}",
        b"[1, 2",
        b'{"__metadata__": {}}',
        b'{"__metadata__": {"state": "[]"}}',
        b'{"__metadata__": {"state": "{}"}}',
        b"[" * 100_000,
        {**STATE, "trial_id": "finetune-other-0123456789abcdef"},
        {**STATE, "epoch": 4},
        {**STATE, "evaluations": [1]},
        {**STATE, "seconds": "long"},
        {**STATE, "history": "none"},
    ],
)
def test_what_is_no_checkpoint_is_named(damage: Mapping[str, object] | bytes) -> None:
    store = MemoryStore()
    key = put(store, damage)
    with refused(Code.DAMAGED_RECORD, key, kind=DamagedFile):
        read_progress(store, key)


@pytest.mark.parametrize("data", [b"", b"short", b"\xff" * 100])
def test_a_length_that_is_none_is_refused(data: bytes) -> None:
    store = MemoryStore()
    key = checkpoint_key(TRIAL, 3, 0, "0123456789abcdef")
    store.create(key, data)
    with refused(Code.DAMAGED_RECORD, key, kind=DamagedFile):
        read_progress(store, key)


def test_a_checkpoint_that_was_deleted_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        read_progress(MemoryStore(), checkpoint_key(TRIAL, 3, 0, "0123456789abcdef"))
