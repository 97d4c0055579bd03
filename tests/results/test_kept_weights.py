"""Weights that are kept: two processes that finish one trial, and kills between any two of their steps.

Whatever happens, weights that a reader has accepted stay: a source's name may be pinned to them.
"""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobs.errors import Code, DamagedFile
from jobs.provenance import history_of
from jobs.results import Committed, LocalStore, Store, commit
from jobs.results.layout import trained_weights_key, trial_key
from jobs.results.trained import Trained, commit_with_weights, made_again_key, require_trained
from jobs.specs.base import NAME_BYTES
from tests.results.support import KIND, DyingStore, InterruptedStore, Killed, MemoryStore, rows, trial

KEY, RESULT, RECORD = trained_weights_key(trial(1)), trial_key(KIND, trial(1)), made_again_key(trial(1))
STEPS = range(20)


def weights(device: str) -> bytes:
    return f"the network of {device}".encode()


def digest(device: str) -> str:
    return hashlib.sha256(weights(device)).hexdigest()


def rows_of(device: str) -> list[dict[str, object]]:
    accuracy = float(len(device))
    return rows(1, trained_sha256=digest(device), device_kind=f"{device} (probe 1: 0)", test_accuracy=accuracy)


def finish(store: Store, device: str) -> Committed:
    """Commit the trial with the weights that it has on a device, which differ from those on any other device."""
    network = Trained(digest(device), history_of(f"{device} (probe 1: 0)", "{}"))
    return commit_with_weights(store, KIND, rows_of(device), network, weights(device))


def accepted(store: Store) -> bytes | None:
    """Return the kept weights of the trial, if it is done and readers accept them."""
    try:
        store.read(RESULT)
        found = store.read(KEY)
        require_trained(store, KIND, trial(1), hashlib.sha256(found).hexdigest())
    except (FileNotFoundError, DamagedFile):
        return None
    return found


def left(store: Store) -> None:
    store.create(KEY, weights("killed"))


def not_kept(store: Store) -> None:
    commit(store, KIND, rows_of("first"))


def left_and_not_kept(store: Store) -> None:
    left(store)
    not_kept(store)


STARTS: dict[str, Callable[[Store], None]] = {
    "nothing": lambda store: None,
    "weights without a result": left,
    "weights of the second without a result": lambda store: store.replace(KEY, weights("two")),
    "a result without weights": not_kept,
    "a result and weights of another network": left_and_not_kept,
}


def test_weights_of_a_result_are_not_replaced(any_store: Store) -> None:
    assert finish(any_store, "one") is Committed.NEW
    assert finish(any_store, "two") is Committed.ALREADY_THERE
    assert any_store.read(KEY) == weights("one")
    assert list(any_store.keys("weights")) == [KEY], "nothing was made again"


def test_weights_without_a_result_are_replaced(any_store: Store) -> None:
    left(any_store)
    assert finish(any_store, "one") is Committed.NEW
    assert accepted(any_store) == weights("one")
    assert list(any_store.keys("weights")) == [KEY]


def test_missing_weights_of_a_result_come_back_with_a_record(any_store: Store) -> None:
    finish(any_store, "one")
    any_store.delete(KEY)
    assert finish(any_store, "two") is Committed.ALREADY_THERE
    assert accepted(any_store) == weights("two")
    assert finish(any_store, "three") is Committed.ALREADY_THERE
    assert accepted(any_store) == weights("two")


def test_weights_that_readers_refuse_are_replaced(any_store: Store) -> None:
    left_and_not_kept(any_store)
    assert accepted(any_store) is None
    finish(any_store, "one")
    assert accepted(any_store) == weights("one")


class Other:
    """Another process that finishes the trial when it is called, and then reads the weights."""

    def __init__(self, store: Store, keeps: bool = True) -> None:
        self.store, self.keeps = store, keeps
        self.ran = False
        self.seen: bytes | None = None

    def __call__(self) -> None:
        self.ran = True
        finish(self.store, "two") if self.keeps else commit(self.store, KIND, rows_of("two"))
        self.seen = accepted(self.store)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("keeps", [True, False], ids=["keeps", "does not keep"])
def test_another_process_finishes_before_any_step(start: str, keeps: bool) -> None:
    for step in STEPS:
        store = MemoryStore()
        STARTS[start](store)
        other = Other(store, keeps)
        finish(InterruptedStore(store, step, other), "one")
        assert accepted(store) in ([other.seen] if other.seen else [weights("one"), weights("two")])
        if not other.ran:
            break
    assert 3 <= step < STEPS.stop - 1, "every step had its interruption"


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("again", ["one", "two"])
def test_killed_around_every_step_and_run_again(start: str, after: bool, again: str) -> None:
    for step in STEPS:
        store = MemoryStore()
        STARTS[start](store)
        try:
            finish(DyingStore(store, step, after), "one")
        except Killed:
            seen = accepted(store)
            finish(store, again)
            assert accepted(store) in ([seen] if seen else [weights("one"), weights("two")])
        else:
            break
    assert 2 < step < STEPS.stop - 1, "every step had its kill"


@pytest.mark.slow
@pytest.mark.parametrize("start", STARTS)
def test_killed_after_another_process_finished_in_between(start: str) -> None:
    """Readers may refuse the weights then, but never accept others than before; removing them helps."""
    for step in STEPS:
        for kill in range(step, STEPS.stop):
            store = MemoryStore()
            STARTS[start](store)
            other = Other(store)
            try:
                finish(DyingStore(InterruptedStore(store, step, other), kill, after=True), "one")
            except Killed:
                assert accepted(store) in (None, other.seen)
                if accepted(store) is None:
                    with pytest.raises(DamagedFile, match="Fix: remove it, then launch its study again") as caught:
                        require_trained(store, KIND, trial(1), hashlib.sha256(store.read(KEY)).hexdigest())
                    assert caught.value.code is Code.DAMAGED_WEIGHTS
                    store.delete(KEY)
                finish(store, "two")
                assert accepted(store)
            else:
                break
        if not other.ran:
            break
    assert 3 <= step < STEPS.stop - 1, "every step had its interruption"


@pytest.mark.parametrize("kind", ["local", "s3"])
@pytest.mark.parametrize("start", STARTS)
def test_two_at_once(start: str, kind: str, request: pytest.FixtureRequest) -> None:
    store: Store = (
        LocalStore(request.getfixturevalue("tmp_path") / "root")
        if kind == "local"
        else request.getfixturevalue("object_store")
    )
    for _ in range(3):
        for key in (RESULT, KEY, RECORD):
            store.delete(key)
        STARTS[start](store)
        barrier = threading.Barrier(2)

        def run(device: str, barrier: threading.Barrier = barrier) -> Committed:
            barrier.wait(timeout=30)
            return finish(store, device)

        with ThreadPoolExecutor(2) as pool:
            outcomes = list(pool.map(run, ("one", "two")))
        assert outcomes.count(Committed.NEW) == ("result" not in start or "without a result" in start)
        assert accepted(store) in (weights("one"), weights("two"))


def test_names_of_any_possible_length_can_be_swapped(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    key = trained_weights_key("x" * (NAME_BYTES - len(".safetensors")))
    store.create(key, b"one")
    assert store.swap(key, b"one", b"two")
    assert store.read(key) == b"two"
