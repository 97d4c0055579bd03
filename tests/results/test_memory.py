"""Results that are read together, and the index, take no more memory than this machine has."""

import json
import os
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.errors import Code, DamagedFile, StorageFailure
from jobs.results import (
    DamagedIndexWarning,
    LocalStore,
    Problem,
    begin,
    commit,
    compact,
    parquet,
    read_trials,
    schema,
)
from jobs.results.compaction import _publish, forget_removed
from jobs.results.index import UnreadIndex, read_compacted, read_index
from jobs.results.layout import CURRENT, checkpoint_key, trained_weights_key, trial_key
from jobs.results.parquet import encoded_schema
from jobs.results.reader import read_files, trial_files
from jobs.results.rows_digest import rows_digest
from jobs.system.memory import Memory
from jobs.verification.verify import verify
from tests.results.support import KIND, MemoryStore, held, once, rows, trial
from tests.support import refused

TRIALS = set(range(40))


@pytest.fixture
def store() -> MemoryStore:
    """Trials outside the index."""
    store = MemoryStore()
    for number in TRIALS:
        commit(store, KIND, rows(number, host="x" * (number + 1)))
    return store


@pytest.fixture
def usable(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set the memory that results may take, which is half of what is available."""

    def limit(size: int) -> None:
        monkeypatch.setattr("jobs.results.limits.machine_memory", lambda: Memory(2 * size, 1 << 40))

    return limit


def stated(store: MemoryStore, **changes: int) -> None:
    """Change what ``CURRENT.json`` states of the compacted file."""
    record = json.loads(store.read(CURRENT))
    record["kinds"][KIND] |= changes
    store.replace(CURRENT, json.dumps(record).encode())


# --- files that are read together ---


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("columns", [None, ["trial_id"], ["host", "epoch", "packages", "trial_id"]])
def test_some_columns_are_those_of_all(store: MemoryStore, columns: list[str] | None, encoded: bool) -> None:
    files = trial_files(store, KIND)
    whole = encoded_schema(KIND) if encoded else schema(KIND)
    expected = read_files(store, KIND, files).cast(whole).select(columns or whole.names)
    found = read_files(store, KIND, files, columns, encoded=encoded)
    assert found.schema.equals(expected.schema, check_metadata=True)
    assert found.to_pylist() == expected.to_pylist()
    assert {column.num_chunks for column in found.columns} == {1}
    assert read_files(store, KIND, {}, columns, encoded=encoded).schema.equals(expected.schema)


def test_what_is_kept_of_many_files_is_limited(store: MemoryStore, usable: Callable[[int], None]) -> None:
    """Each file fits, their sum does not; of a single column, it does."""
    usable(read_trials(store, KIND).nbytes // 2)
    with refused(Code.OUT_OF_MEMORY, store.uri, "memory", kind=StorageFailure, file=store.uri):
        read_trials(store, KIND)
    assert held(read_trials(store, KIND, ["seed", "epoch"], encoded=True)) == once(TRIALS)


def test_a_file_that_does_not_fit_is_not_damaged(store: MemoryStore, usable: Callable[[int], None]) -> None:
    usable(1_000)
    reads: list[Callable[[], object]] = [lambda: read_trials(store, KIND, skip_damaged=True), lambda: verify(store)]
    for read in reads:
        with refused(Code.OUT_OF_MEMORY, store.uri, kind=StorageFailure):
            read()


def test_large_files_are_used_one_after_the_other(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.results.limits._LARGE", 1)
    ordered, counting, now, most = parquet._ordered, threading.Lock(), 0, 0

    def observed(*given: Any) -> pa.Table:
        nonlocal now, most
        with counting:
            now += 1
            most = max(most, now)
        time.sleep(0.001)
        table = ordered(*given)
        with counting:
            now -= 1
        return table

    monkeypatch.setattr(parquet, "_ordered", observed)
    assert held(read_trials(store, KIND)) == once(TRIALS)
    assert verify(store) == []
    assert most == 1


def test_long_text_is_expanded_only_where_it_is_asked_for(
    store: MemoryStore, usable: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the file it is stored once, and so it is in encoded columns."""
    many = [{**rows(99)[0], "epoch": epoch, "epochs": 200, "host": "x" * 10_000} for epoch in range(1, 201)]
    commit(store, KIND, many)
    files = {trial(99): trial_key(KIND, trial(99))}
    plain = read_files(store, KIND, files, ["host"])
    monkeypatch.setattr(parquet, "_PLAIN_BYTES", 10_000)
    assert read_files(store, KIND, files, ["host"]).equals(plain)
    assert read_files(store, KIND, files, ["host"], encoded=True).nbytes < plain.nbytes / 50
    usable(plain.nbytes // 2)
    with refused(Code.OUT_OF_MEMORY, store.uri, kind=StorageFailure):
        read_files(store, KIND, files, ["host"])


def test_the_digest_of_a_part_is_that_of_its_copy() -> None:
    values = {"text": ["a", "bc", None, "", "\u00e9"], "lists": [["x"], [], None, ["yz", None], ["q"]]}
    table = pa.table({**values, "bytes": pa.array([b"", b"1", None, b"23", b"4"])})
    copy = pa.Table.from_pylist(table.to_pylist()[1:4], schema=table.schema)
    assert rows_digest(table.slice(1, 3)) == rows_digest(copy)
    assert rows_digest(table.slice(0, 0)) == rows_digest(table.schema.empty_table())


def test_checkpoints_and_networks_are_not_read_as_a_whole(tmp_path: Path) -> None:
    """They have up to gigabytes."""
    size, own = 100 << 20, LocalStore(tmp_path / "root")
    begin(own)
    commit(own, KIND, rows(1, trained_sha256="0" * 64))
    checkpoint, network = checkpoint_key(trial(2), 1, 0, "0" * 16), trained_weights_key(trial(1))
    for key in (checkpoint, network):
        own.create(key, b"")
        os.truncate(own.directory / key, size)
    tracemalloc.start()
    found = {finding.key: finding.problem for finding in verify(own)}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found[checkpoint] is Problem.DAMAGED_CHECKPOINT
    assert found[network] is Problem.OTHER_WEIGHTS
    assert peak < size / 4


# --- the index ---


def test_an_index_larger_than_memory_is_passed_over(store: MemoryStore, usable: Callable[[int], None]) -> None:
    """Equal rows take almost no space in the file."""
    many = [{**rows(1)[0], "epoch": epoch} for epoch in range(1, 2_001)]
    assert _publish(store, KIND, pa.Table.from_pylist(many, schema=schema(KIND)), None)
    usable(200_000)
    with pytest.raises(UnreadIndex):
        read_compacted(store, KIND)
    with pytest.warns(DamagedIndexWarning, match="memory"):
        assert held(read_trials(store, KIND)) == once(TRIALS)
    assert Problem.DAMAGED_INDEX in {finding.problem for finding in verify(store)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trials": 0}, "has at most"),
        ({"trials": -1}, "has at most"),
        ({"trials": 10**9}, "lists 40"),
        ({"rows": 10**12}, "rows"),
    ],
)
def test_an_index_that_states_other_numbers_is_passed_over(
    store: MemoryStore, changes: dict[str, int], words: str
) -> None:
    compact(store, KIND)
    stated(store, **changes)
    with pytest.warns(DamagedIndexWarning, match=words):
        assert held(read_trials(store, KIND)) == once(TRIALS)
    assert Problem.DAMAGED_INDEX in {finding.problem for finding in verify(store)}
    assert compact(store, KIND).written
    assert verify(store) == []


def test_an_index_of_nothing_can_be_read() -> None:
    store = MemoryStore()
    compact(store, KIND)
    assert len(read_trials(store, KIND)) == 0
    assert verify(store) == []


def test_what_others_may_read_contains_no_trial_that_was_removed(
    store: MemoryStore, usable: Callable[[int], None]
) -> None:
    """A machine without the memory to read the index must not leave old rows of a trial that runs again in it."""
    compact(store, KIND)
    store.delete(trial_key(KIND, trial(1)))
    usable(1_000)
    forget_removed(store)
    usable(1 << 30)
    commit(store, KIND, rows(1, test_accuracy=75.0))
    assert KIND not in read_index(store)
    (accuracy,) = {row["test_accuracy"] for row in read_trials(store, KIND).to_pylist() if row["seed"] == 1}
    assert accuracy == 75.0


def test_a_damaged_index_is_no_large_one(store: MemoryStore) -> None:
    compact(store, KIND)
    store.replace(read_index(store)[KIND].file, b"PAR1")
    with pytest.raises(DamagedFile) as caught:
        read_compacted(store, KIND)
    assert not isinstance(caught.value, UnreadIndex)
    before = read_index(store)
    forget_removed(store)
    assert read_index(store) == before
