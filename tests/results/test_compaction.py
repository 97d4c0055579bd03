"""The index: how readers use it, how compactors interact, and how a damaged one is handled."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.errors import Code, DamagedFile, StorageFailure
from jobs.results import (
    DamagedIndexWarning,
    LocalStore,
    Problem,
    Store,
    begin,
    commit,
    compact,
    done,
    kinds,
    read_trials,
    schema,
    uncovered,
)
from jobs.results.index import read_index
from jobs.results.layout import CURRENT, compact_key, trial_key
from jobs.verification.verify import verify
from tests.results.support import KIND, InterruptedStore, MemoryStore, held, once, rows, trial
from tests.support import refused

AGAIN = 75.0
"""The accuracy of a trial that ran again, which differs from its first one."""


def half_compacted() -> MemoryStore:
    """Return a store with four trials, two of which are in the index."""
    store = MemoryStore()
    for number in (4, 2):
        commit(store, KIND, rows(number))
    compact(store, KIND)
    for number in (3, 1):
        commit(store, KIND, rows(number))
    return store


@pytest.fixture
def store() -> MemoryStore:
    return half_compacted()


def test_compaction_changes_nothing_that_is_read(any_store: Store) -> None:
    for number in (2, 1):
        commit(any_store, KIND, rows(number, test_loss=float("nan"), epsilon=None))
    before = read_trials(any_store, KIND)
    assert uncovered(any_store, KIND) == 2
    assert compact(any_store, KIND) == (2, 4, True)
    assert uncovered(any_store, KIND) == 0
    after = read_trials(any_store, KIND)
    assert after.to_pandas().equals(before.to_pandas())
    assert after.schema.equals(schema(KIND), check_metadata=True)
    assert compact(any_store, KIND) == (2, 4, False)


def test_rows_are_in_order_of_trial_and_epoch(store: Store) -> None:
    table = read_trials(store, KIND)
    assert table.sort_by([("trial_id", "ascending"), ("epoch", "ascending")]).equals(table)
    assert held(table) == once({1, 2, 3, 4})


def test_the_compacted_file_is_ordinary_sorted_parquet(store: Store) -> None:
    compact(store, KIND)
    entry = read_index(store)[KIND]
    table = pq.read_table(pa.BufferReader(store.read(entry.file)))
    assert table["seed"].to_pylist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert (entry.rows, entry.trials) == (8, 4)


def test_some_columns(store: Store) -> None:
    table = read_trials(store, KIND, ["test_accuracy", "seed"])
    assert table.column_names == ["test_accuracy", "seed"]
    assert table.equals(read_trials(store, KIND).select(["test_accuracy", "seed"]))


def test_an_empty_root_can_be_compacted() -> None:
    store = MemoryStore()
    assert compact(store, KIND) == (0, 0, True)
    assert read_trials(store, KIND).equals(schema(KIND).empty_table())
    commit(store, KIND, rows(1))
    assert held(read_trials(store, KIND)) == once({1})


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b'{"version": 1}', b'{"version": 2, "kinds": {}}', b'{"version": 1, "kinds": {"finetune": 3}}'],
)
def test_a_damaged_current_is_named_passed_over_and_mended(store: Store, text: bytes) -> None:
    store.replace(CURRENT, text)
    with pytest.warns(DamagedIndexWarning, match=rf"{store.uri}/{CURRENT}.*No result is lost.*deltasweep compact"):
        assert held(read_trials(store, KIND)) == once({1, 2, 3, 4})
    assert uncovered(store, KIND) == 4
    compact(store, KIND)
    assert held(read_trials(store, KIND)) == once({1, 2, 3, 4})
    assert uncovered(store, KIND) == 0


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-9], lambda data: None])
def test_a_damaged_compacted_file_is_named_passed_over_and_mended(
    store: Store, damage: Callable[[bytes], bytes | None]
) -> None:
    file = read_index(store)[KIND].file
    data = damage(store.read(file))
    store.delete(file) if data is None else store.replace(file, data)
    with pytest.warns(DamagedIndexWarning, match=rf"{file}.*No result is lost"):
        assert held(read_trials(store, KIND)) == once({1, 2, 3, 4})
    compact(store, KIND)
    assert held(read_trials(store, KIND)) == once({1, 2, 3, 4})


def test_a_compacted_file_of_another_version_is_not_read(store: Store) -> None:
    entry = read_index(store)[KIND]
    buffer = pa.BufferOutputStream()
    metadata = {"deltasweep_kind": KIND, "deltasweep_schema": "0"}
    pq.write_table(read_trials(store, KIND).replace_schema_metadata(metadata), buffer)
    data = buffer.getvalue().to_pybytes()
    store.replace(entry.file, data)
    new = entry._replace(sha256=hashlib.sha256(data).hexdigest())
    store.replace(CURRENT, json.dumps({"version": 1, "kinds": {KIND: new._asdict()}}).encode())
    with pytest.warns(DamagedIndexWarning, match="version 0"):
        assert held(read_trials(store, KIND)) == once({1, 2, 3, 4})


@pytest.mark.parametrize("instead", ["a folder", "a file for the folder"])
def test_a_current_that_is_no_file_is_deleted_with_the_index(tmp_path: Path, instead: str) -> None:
    store = LocalStore(tmp_path)
    commit(store, KIND, rows(1))
    if instead == "a folder":
        (tmp_path / CURRENT).mkdir(parents=True)
    else:
        (tmp_path / "compact").write_bytes(b"")
    advice = rf"^{store.uri}/{CURRENT} .* is not a file.*No result is lost.*delete {store.uri}/compact, then"
    with pytest.warns(DamagedIndexWarning, match=advice):
        assert held(read_trials(store, KIND)) == once({1})
    assert uncovered(store, KIND) == 1
    before = sorted(tmp_path.rglob("*"))
    file = f"{store.uri}/{CURRENT}"
    with refused(Code.DAMAGED_INDEX, file, f"{store.uri}/compact,", "deltasweep compact", kind=DamagedFile, file=file):
        compact(store, KIND)
    assert sorted(tmp_path.rglob("*")) == before
    findings = verify(store)
    assert {finding.problem for finding in findings} == {Problem.DAMAGED_INDEX}
    assert all(re.match(advice, finding.advice) for finding in findings)
    shutil.rmtree(tmp_path / "compact") if instead == "a folder" else (tmp_path / "compact").unlink()
    compact(store, KIND)
    assert verify(store) == []


def test_a_compacted_file_that_is_a_folder_is_passed_over_and_mended(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    commit(store, KIND, rows(1))
    compact(store, KIND)
    file = tmp_path / read_index(store)[KIND].file
    file.unlink()
    file.mkdir()
    with pytest.warns(DamagedIndexWarning, match=rf"{file}.*is a folder.*No result is lost"):
        assert held(read_trials(store, KIND)) == once({1})
    assert compact(store, KIND).written
    assert verify(store) == []


def test_a_damaged_trial_stops_compaction_and_leaves_the_index(store: Store) -> None:
    before = store.read(CURRENT)
    key = trial_key(KIND, trial(3))
    store.replace(key, store.read(key)[:-1])
    with refused(Code.DAMAGED_RESULT, key, kind=DamagedFile, file=f"{store.uri}/{key}"):
        compact(store, KIND)
    assert store.read(CURRENT) == before


def test_kinds_stand_in_the_index_beside_each_other(store: Store) -> None:
    first = read_index(store)
    for kind in kinds():
        compact(store, kind)
    found = read_index(store)
    assert found.keys() == set(kinds())
    assert found[KIND].previous == first[KIND].file, "the kinds after it left its entry as it was"


def test_a_trial_whose_file_was_taken_away_is_not_read_from_the_index(store: Store) -> None:
    store.delete(trial_key(KIND, trial(2)))
    assert held(read_trials(store, KIND)) == once({1, 3, 4})
    assert trial(2) not in done(store, KIND)
    compact(store, KIND)
    assert held(read_trials(store, KIND)) == once({1, 3, 4})


def test_many_compactors_commits_and_readers_at_once(any_store: Store) -> None:
    commit(any_store, KIND, rows(0))

    def work(number: int) -> None:
        commit(any_store, KIND, rows(number))
        compact(any_store, KIND)
        found = held(read_trials(any_store, KIND))
        assert found[(number, 1)] == 1
        assert set(found.values()) == {1}

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(1, 9)))
    assert held(read_trials(any_store, KIND)) == once(set(range(9)))
    compact(any_store, KIND)
    assert uncovered(any_store, KIND) == 0


def test_old_generations_go_and_the_one_before_stays(store: Store) -> None:
    now = datetime.now(UTC)
    old, young = (f"{now - age:%Y%m%dT%H%M%SZ}-0123abcd" for age in (timedelta(days=2), timedelta(hours=1)))
    for generation in (old, young, "foreign"):
        store.create(compact_key(generation, KIND), b"another compactor's")
    first = read_index(store)[KIND].file
    compact(store, KIND)
    second = read_index(store)[KIND]
    assert second.previous == first
    left = {compact_key(generation, KIND) for generation in (young, "foreign")}
    assert set(store.keys("compact")) == {CURRENT, second.file, first, *left}


def test_what_the_index_names_stays_however_old(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """This applies to every kind: a kind without new trials for a long time is not compacted again."""
    monkeypatch.setattr("jobs.results.compaction.KEPT_FOR", timedelta(days=-1))
    for kind in kinds():
        compact(store, kind)
    commit(store, KIND, rows(5))
    compact(store, KIND)
    entries = read_index(store).values()
    named = {entry.file for entry in entries} | {entry.previous for entry in entries if entry.previous}
    assert set(store.keys("compact")) == {CURRENT, *named}
    assert held(read_trials(store, KIND)) == once({1, 2, 3, 4, 5})


def test_the_index_may_be_removed_with_everything_in_it(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "root")
    for number in (1, 2):
        commit(store, KIND, rows(number))
    compact(store, KIND)
    shutil.rmtree(store.directory / "compact")
    assert held(read_trials(store, KIND)) == once({1, 2})
    assert uncovered(store, KIND) == 2


def test_a_trial_that_runs_again_after_its_file_was_taken_away_is_read_anew(any_store: Store) -> None:
    """A reader that trusted its id alone would answer with the rows of the file that was removed."""
    for number in (1, 2, 3):
        commit(any_store, KIND, rows(number))
    compact(any_store, KIND)
    any_store.delete(trial_key(KIND, trial(2)))
    begin(any_store)
    commit(any_store, KIND, rows(2, test_accuracy=AGAIN))
    for _ in range(2):
        found = read_trials(any_store, KIND, ["trial_id", "test_accuracy"])
        again = {row["test_accuracy"] for row in found.to_pylist() if row["trial_id"] == trial(2)}
        assert again == {AGAIN}
        compact(any_store, KIND)
    assert uncovered(any_store, KIND) == 0
    assert verify(any_store) == []


def no_index(store: Store) -> None:
    store.delete(CURRENT)


def damaged_index(store: Store) -> None:
    store.replace(CURRENT, b"{")


@pytest.mark.parametrize("damage", [None, no_index, damaged_index])
@pytest.mark.parametrize("number", [2, 3])
def test_a_compaction_that_read_a_file_before_it_was_taken_away_does_not_publish_it(
    number: int, damage: Callable[[Store], None] | None
) -> None:
    """Between two of its steps the file is removed, a launch begins, and the trial runs again."""
    ran = list[int]()

    def again(store: Store, step: int) -> None:
        ran.append(step)
        store.delete(trial_key(KIND, trial(number)))
        begin(store)
        commit(store, KIND, rows(number, test_accuracy=AGAIN))

    for step in range(50):
        store = half_compacted()
        if damage:
            damage(store)
        try:
            compact(InterruptedStore(store, step, partial(again, store, step)), KIND)
        except StorageFailure:  # the file disappeared while it was in use; a damaged index may have stayed
            compact(store, KIND)
        if step not in ran:
            break
        found = read_trials(store, KIND, ["seed", "test_accuracy"]).to_pylist()
        assert {row["test_accuracy"] for row in found if row["seed"] == number} == {AGAIN}, step
        assert verify(store) == []
    assert 8 < step < 49, "every step had its interruption"


def test_a_compaction_that_has_to_read_again_leaves_no_file_behind(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launch begins while it reads. Job arrays begin one run after another, and a file may take gigabytes."""
    read, begins = store.read, [1, 2, 3]

    def reading(key: str) -> bytes:
        if key == trial_key(KIND, trial(3)) and begins:
            begins.pop()
            begin(store)
        return read(key)

    monkeypatch.setattr(store, "read", reading)
    first = read_index(store)[KIND].file
    assert compact(store, KIND) == (4, 8, True)
    assert begins == []
    assert set(store.keys("compact")) == {CURRENT, first, read_index(store)[KIND].file}


@pytest.mark.parametrize("damage", [no_index, damaged_index])
def test_a_compaction_that_fails_changes_nothing(damage: Callable[[Store], None]) -> None:
    store = half_compacted()
    damage(store)
    torn = trial_key(KIND, trial(3))
    store.replace(torn, store.read(torn)[:-20])
    before = {key: store.read(key) for key in store.keys("")}
    with pytest.raises(DamagedFile):
        compact(store, KIND)
    assert {key: store.read(key) for key in store.keys("")} == before


def test_of_launches_that_begin_at_once_none_fails(store: MemoryStore) -> None:
    """Each is satisfied if another one stops the compactions."""
    for step in range(20):
        begin(InterruptedStore(store, step, partial(begin, store)))
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(begin, [store] * 200))
    assert held(read_trials(store, KIND)) == once({1, 2, 3, 4})


def test_a_current_of_a_newer_version_keeps_no_rows_of_a_trial_that_runs_again(any_store: Store) -> None:
    """This version cannot see whether it contains the trial."""
    commit(any_store, KIND, rows(1))
    compact(any_store, KIND)
    any_store.replace(CURRENT, any_store.read(CURRENT).replace(b'"version": 1', b'"version": 2'))
    begin(any_store)
    assert read_index(any_store) == {}


def test_a_launch_does_not_mend_a_damaged_index(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    commit(store, KIND, rows(1))
    compact(store, KIND)
    file = tmp_path / read_index(store)[KIND].file
    file.write_bytes(b"torn")
    begin(store)
    assert file.read_bytes() == b"torn"
