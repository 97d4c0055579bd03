"""Merging roots: each trial once, names compared before anything is written, conflicts kept and reported."""

import contextlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import Code, DamagedFile, InvalidRequest, ResultsConflict
from jobs.results import (
    Failure,
    FailureKind,
    Launch,
    Problem,
    Store,
    commit,
    compact,
    done,
    merge,
    open_store,
    pin,
    read_failures,
    read_launches,
    read_trials,
    record_failure,
    record_study,
    recorded_studies,
    write_launch,
)
from jobs.results.layout import checkpoint_key, launch_key, log_key, output_key, pin_key, trained_weights_key, trial_key
from jobs.results.root_record import read_root
from jobs.results.schema import most_bytes
from jobs.results.trained import made_again_key
from jobs.verification.verify import verify
from tests.analysis.examined import asked
from tests.results.growth import COUNT, grown
from tests.results.support import KIND, DyingStore, Killed, MemoryStore, held, once, rows, trial
from tests.support import refused

LONG_AGO = "2026-01-01T00:00:00+00:00"


def launch(name: str, **changes: Any) -> Launch:
    return Launch(name, "s", "d", "ada", "node7", LONG_AGO, "0.1.0", {}, LONG_AGO)._replace(**changes)


def failure(number: int, attempt: int, reason: str = "no") -> Failure:
    return Failure(trial(number), attempt, FailureKind.ERROR, "ValueError", reason, "node7", "l", LONG_AGO)


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Store, Store]:
    """Two roots with trials 1, 2 and 2, 3."""
    found = (open_store(tmp_path / "one"), open_store(tmp_path / "two"))
    for store, numbers in zip(found, ((1, 2), (2, 3)), strict=True):
        pin(store, "datasets", "digits", "d" * 64)
        for number in numbers:
            commit(store, KIND, rows(number))
    return found


@pytest.fixture
def target(tmp_path: Path) -> Store:
    return open_store(tmp_path / "joined")


def everything(store: Store) -> dict[str, bytes]:
    return {key: store.read(key) for key in store.keys("") if not key.startswith("_tmp/")}


def test_each_trial_is_there_once(roots: tuple[Store, Store], target: Store) -> None:
    compact(roots[0], KIND)
    before = [everything(root) for root in roots]
    found = merge(roots, target)
    assert (found.trials, found.already_there, found.conflicts, found.other_devices) == (3, 1, [], 0)
    assert held(read_trials(target, KIND)) == once({1, 2, 3})
    assert [everything(root) for root in roots] == before, "what is read stays as it is"
    assert read_root(target) is not None
    assert verify(target) == []
    once_more = everything(target)
    assert merge(roots, target).trials == 0
    assert everything(target) == once_more


def test_results_are_the_same_bytes(roots: tuple[Store, Store], target: Store) -> None:
    """The record of who ran it, when and where, is kept."""
    merge(roots, target)
    for root, number in ((roots[0], 1), (roots[0], 2), (roots[1], 3)):
        key = trial_key(KIND, trial(number))
        assert target.read(key) == root.read(key)


def test_a_root_may_be_joined_to_one_that_is_there(roots: tuple[Store, Store]) -> None:
    assert merge(roots[:1], roots[1]).trials == 1
    assert held(read_trials(roots[1], KIND)) == once({1, 2, 3})
    assert read_root(roots[1]) is None, "who made it is not we"


def test_other_numbers_of_one_device_are_a_conflict_that_is_named(roots: tuple[Store, Store], target: Store) -> None:
    commit(roots[1], KIND, rows(1, test_loss=9.0))
    found = merge(roots, target)
    assert found.conflicts == [trial(1)]
    (conflict,) = target.keys("conflicts")
    assert target.read(conflict) == roots[1].read(trial_key(KIND, trial(1)))
    assert [finding.problem for finding in verify(target)] == [Problem.CONFLICT]


def test_other_numbers_of_another_device_are_counted(roots: tuple[Store, Store], target: Store) -> None:
    device = rows(1)[0]["device_kind"]
    commit(roots[1], KIND, rows(1, test_loss=9.0, device_kind=str(device).replace("(probe ", "X (probe ")))
    found = merge(roots, target)
    assert (found.conflicts, found.other_devices) == ([], 1)
    assert list(target.keys("conflicts")) == []
    losses = {row["test_loss"] for row in read_trials(target, KIND).to_pylist() if row["seed"] == 1}
    assert 9.0 not in losses, "the first root's stand"


def test_names_that_stand_for_different_things_are_all_told_and_nothing_is_written(
    roots: tuple[Store, Store], target: Store
) -> None:
    for store, digest in zip(roots, "ab", strict=True):
        pin(store, "sources", "natural", digest * 64)
        store.create("cards/sources/mine.json", f'{{"name": "mine", "sha256": "{digest * 64}"}}'.encode())
    with pytest.raises(ResultsConflict) as caught:
        merge(roots, target)
    files = [f"{roots[1].uri}/{key}" for key in ("cards/sources/mine.json", "sources/natural.json")]
    assert (caught.value.code, caught.value.place.file) == (Code.OTHER_DIGEST, files[0])
    assert [mistake.place.file for mistake in caught.value.mistakes] == files
    for value in ("sources/natural", "cards/sources/mine", "a" * 12, "b" * 12, roots[0].uri, roots[1].uri):
        assert value in str(caught.value)
    assert list(target.keys("")) == []


def test_a_target_that_knows_another_name_refuses(roots: tuple[Store, Store], target: Store) -> None:
    pin(target, "datasets", "digits", "1" * 64)
    file = f"{target.uri}/{pin_key('datasets', 'digits')}"
    with refused(Code.OTHER_DIGEST, "datasets/digits", "1" * 12, kind=ResultsConflict, file=file):
        merge(roots, target)
    assert done(target, KIND) == set()


def test_a_damaged_result_is_named_and_nothing_is_written(roots: tuple[Store, Store], target: Store) -> None:
    roots[1].replace(trial_key(KIND, trial(3)), b"PAR1 no more")
    file = f"{roots[1].uri}/{trial_key(KIND, trial(3))}"
    with refused(Code.DAMAGED_RESULT, file, kind=DamagedFile, file=file):
        merge(roots, target)
    assert list(target.keys("")) == []


def test_a_root_that_a_launch_works_on_is_refused(roots: tuple[Store, Store], target: Store) -> None:
    now = datetime.now(UTC).isoformat()
    write_launch(roots[0], launch("1", heartbeat_at=now))
    values = ("launch 1 ", "ada", "node7", roots[0].uri, "deltasweep status")
    with refused(Code.IN_USE, *values, kind=InvalidRequest, file=roots[0].uri):
        merge(roots, target)
    write_launch(roots[0], launch("1", heartbeat_at=now, ended_at=now))
    assert merge(roots, target).trials == 3


@pytest.mark.parametrize("which", ["none", "twice", "into itself", "not there"])
def test_roots_that_cannot_be_joined(which: str, roots: tuple[Store, Store], target: Store, tmp_path: Path) -> None:
    named, into, code, file, key = {
        "none": ([], target, Code.MISSING_KEY, "", "ROOT"),
        "twice": ([roots[0], roots[0]], target, Code.REPEATED, roots[0].uri, "ROOT"),
        "into itself": ([roots[0]], roots[0], Code.REPEATED, roots[0].uri, "--results"),
        "not there": ([open_store(tmp_path / "nowhere")], target, Code.NO_ROOT, str(tmp_path / "nowhere"), "--results"),
    }[which]
    with refused(code, file, kind=InvalidRequest, file=file, key=key):
        merge(named, into)
    assert list(target.keys("")) == []


def test_places_are_compared_and_not_their_spelling(roots: tuple[Store, Store], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "one")
    for named, into in (
        ([roots[0], open_store(tmp_path / "two" / ".." / "one")], tmp_path / "joined"),
        ([roots[0], open_store(tmp_path / "link")], tmp_path / "joined"),
        ([roots[0]], tmp_path / "one" / "trials" / "finetune"),
        ([roots[0]], tmp_path),
    ):
        with refused(Code.REPEATED, roots[0].uri, kind=InvalidRequest):
            merge(named, open_store(into))
    assert not (tmp_path / "joined").exists()
    assert held(read_trials(roots[0], KIND)) == once({1, 2})


def test_a_folder_of_something_else_is_no_root(target: Store, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").touch()
    with refused(Code.NO_ROOT, str(tmp_path / "photos"), kind=InvalidRequest):
        merge([open_store(tmp_path / "photos")], target)
    assert list(target.keys("")) == []


def test_a_kind_that_this_version_does_not_know_is_not_left_behind(roots: tuple[Store, Store], target: Store) -> None:
    roots[1].create("trials/probe/ab/probe-x-ab00000000000000.parquet", b"of a later release")
    with refused(Code.NEWER_VERSION, "trials/probe/ab/probe-x-ab00000000000000.parquet", kind=InvalidRequest):
        merge(roots, target)
    assert list(target.keys("")) == []


def test_a_damaged_file_of_the_target_is_named_before_anything_is_brought(roots: tuple[Store, Store]) -> None:
    roots[1].replace(trial_key(KIND, trial(3)), b"PAR1 no more")
    with refused(Code.DAMAGED_RESULT, trial(3), kind=DamagedFile):
        merge(roots[:1], roots[1])
    assert done(roots[1], KIND) == {trial(2), trial(3)}


def test_studies_of_one_digest_and_two_texts(roots: tuple[Store, Store], target: Store) -> None:
    for number, root in enumerate(roots):
        record_study(root, "same", "d1", f"name: same\ndescription: {number}\n")
    with refused(Code.OTHER_DIGEST, "studies/same/d1.yaml", kind=ResultsConflict):
        merge(roots, target)
    assert list(target.keys("")) == []


def test_weights_that_a_killed_attempt_left_make_way(roots: tuple[Store, Store], target: Store) -> None:
    roots[0].create(trained_weights_key(trial(1)), b"of the result")
    target.create(trained_weights_key(trial(1)), b"left by an attempt that was killed")
    merge(roots, target)
    assert target.read(trained_weights_key(trial(1))) == b"of the result"


def test_weights_and_logs_without_a_result_come_along(roots: tuple[Store, Store], target: Store) -> None:
    roots[0].create(trained_weights_key(trial(8)), b"of a trial whose result was moved away")
    roots[0].create(log_key(trial(8), 1), b"of an attempt whose record was removed")
    merge(roots, target)
    assert target.read(trained_weights_key(trial(8))) == b"of a trial whose result was moved away"
    assert target.read(log_key(trial(8), 1)) == b"of an attempt whose record was removed"


def test_checkpoints_of_what_another_root_has_done_stay(roots: tuple[Store, Store], target: Store) -> None:
    roots[0].create(checkpoint_key(trial(3), 2, 0, "ab"), b"state")
    merge(roots, target)
    assert list(target.keys("checkpoints")) == []


def test_what_was_found_out_about_a_network_that_does_not_stand_is_left_out(
    roots: tuple[Store, Store], target: Store
) -> None:
    """Two machines of different device kinds fine-tuned the same trial, and each examined its own network."""
    device = str(rows(1)[0]["device_kind"]).replace("(probe ", "X (probe ")
    commit(roots[1], KIND, rows(1, test_loss=9.0, device_kind=device))
    looked = {}
    for number, root in enumerate(roots):
        found = asked(number)
        commit(root, "shape_bias", [{**row, "finetuned": trial(1)} for row in found])
        looked[number] = str(found[0]["trial_id"])
    assert merge(roots, target).examinations_left_out == [looked[1]]
    assert done(target, "shape_bias") == {looked[0]}


def test_weights_come_with_the_result_that_stands(roots: tuple[Store, Store], target: Store) -> None:
    for number, root in enumerate(roots):
        root.create(trained_weights_key(trial(2)), f"weights of root {number}".encode())
    roots[1].create(trained_weights_key(trial(3)), b"of 3")
    commit(roots[1], KIND, rows(1, test_loss=9.0))
    roots[1].create(trained_weights_key(trial(1)), b"of other numbers")
    merge(roots, target)
    kept = {key: target.read(key) for key in target.keys("weights")}
    assert kept == {
        trained_weights_key(trial(2)): b"weights of root 0",
        trained_weights_key(trial(3)): b"of 3",
    }


def test_failures_are_numbered_on_and_never_doubled(roots: tuple[Store, Store], target: Store) -> None:
    for root, reasons in zip(roots, (["same", "one"], ["same", "other"]), strict=True):
        for attempt, reason in enumerate(reasons, start=1):
            record_failure(root, failure(5, attempt, reason), f"log of {reason}")
    for _ in range(2):
        merge(roots, target)
        found = [(one.attempt, one.reason) for one in read_failures(target)]
        assert found == [(1, "same"), (2, "one"), (3, "other")]
        logs = [target.read(log_key(trial(5), attempt)).decode() for attempt, _ in found]
        assert logs == ["log of same", "log of one", "log of other"]


def test_of_a_launch_the_record_that_heard_last_counts(roots: tuple[Store, Store], target: Store) -> None:
    """One record is a copy taken during the launch; the other root has its end."""
    write_launch(roots[0], launch("1", in_flight=(trial(1),)))
    write_launch(roots[1], launch("1", heartbeat_at="2026-01-01T01:00:00+00:00", ended_at="2026-01-01T01:00:00+00:00"))
    write_launch(roots[1], launch("2"))
    merge(roots, target)
    merge(roots[:1], target)
    assert [(one.launch, one.ended_at is not None) for one in read_launches(target)] == [("1", True), ("2", False)]


def test_a_record_of_another_launch_is_named_and_nothing_is_written(roots: tuple[Store, Store], target: Store) -> None:
    """It would replace the record of that launch."""
    write_launch(target, launch("1"))
    before = everything(target)
    forged = launch("1", user="eve", heartbeat_at="2026-02-01T00:00:00+00:00")
    roots[1].create(launch_key("2"), json.dumps(forged._asdict()).encode())
    file = f"{roots[1].uri}/{launch_key('2')}"
    with refused(Code.DAMAGED_RECORD, file, "'1'", kind=DamagedFile, file=file):
        merge(roots, target)
    assert everything(target) == before


def test_checkpoints_of_what_is_not_done_come_along(roots: tuple[Store, Store], target: Store) -> None:
    for number in (1, 7):
        roots[0].create(checkpoint_key(trial(number), 2, 0, "ab"), b"state")
    roots[1].create(checkpoint_key(trial(1), 2, 0, "ab"), b"state")
    merge(roots, target)
    assert [key.split("/")[1] for key in target.keys("checkpoints")] == [trial(7)]


def test_studies_and_conflicts_come_along(roots: tuple[Store, Store], target: Store) -> None:
    commit(roots[0], KIND, rows(1, test_loss=9.0))
    for root, name in zip(roots, ("first", "second"), strict=True):
        record_study(root, name, "d1", f"name: {name}\n")
    merge(roots, target)
    assert [record.name for record in recorded_studies(target)] == ["first", "second"]
    assert sorted(target.keys("conflicts")) == sorted(roots[0].keys("conflicts"))


def test_roots_of_two_versions(roots: tuple[Store, Store], target: Store) -> None:
    """The columns in both are compared; each file keeps its version."""
    with grown(KIND, [COUNT]):
        newer = [[{**row, "count": number} for row in rows(number)] for number in (1, 9)]
        for made in newer:
            commit(roots[1], KIND, made)
        assert merge(roots, target).conflicts == []
        counts = {row["seed"]: row["count"] for row in read_trials(target, KIND).to_pylist()}
        assert counts == {1: 7, 2: 7, 3: 7, 9: 9}


@pytest.mark.parametrize("step", range(0, 40, 3))
def test_a_merge_that_was_killed_is_done_again(step: int) -> None:
    stores = [MemoryStore(), MemoryStore()]
    for number, store in enumerate(stores):
        store.uri = f"memory{number}"
        commit(store, KIND, rows(number))
        record_failure(store, failure(5, 1, f"reason {number}"), "log")
        store.create(trained_weights_key(trial(number)), b"weights")
    target = MemoryStore()
    with contextlib.suppress(Killed):
        merge(stores, DyingStore(target, step, after=True))
    merge(stores, target)
    assert held(read_trials(target, KIND)) == once({0, 1})
    assert len(read_failures(target)) == 2
    assert len(list(target.keys("weights"))) == 2


@pytest.mark.parametrize("printing", ["ab", "b"])
def test_what_attempts_printed_keeps_its_attempt(printing: str, roots: tuple[Store, Store], target: Store) -> None:
    """Numbers of failed attempts change; that of a finished one is part of its result. Not every attempt prints."""
    for root, name in zip(roots, "ab", strict=True):
        record_failure(root, failure(5, 1, f"failure of {name}"), f"log of {name}")
        if name in printing:
            root.create(output_key(trial(5), 1), f"printed by {name}".encode())
    commit(roots[1], KIND, rows(5, attempt=2))
    roots[1].create(output_key(trial(5), 2), b"printed by the attempt that finished")
    for _ in range(2):
        merge(roots, target)
        assert target.read(output_key(trial(5), 2)) == b"printed by the attempt that finished"
        found = {one.reason: one.attempt for one in read_failures(target)}
        assert found == {"failure of a": 1, "failure of b": 3}
        for name, attempt in (("a", 1), ("b", 3)):
            assert target.read(log_key(trial(5), attempt)) == f"log of {name}".encode()
            if name in printing:
                assert target.read(output_key(trial(5), attempt)) == f"printed by {name}".encode()


def test_a_target_that_a_launch_works_on_is_refused(roots: tuple[Store, Store], target: Store) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    write_launch(target, launch("1", heartbeat_at=now, started_at=now))
    before = everything(target)
    with refused(Code.IN_USE, "launch 1 of study s by ada on node7", kind=InvalidRequest, file=target.uri):
        merge(roots, target)
    assert everything(target) == before


def test_a_record_of_retrained_weights_stays_with_the_weights(roots: tuple[Store, Store], target: Store) -> None:
    roots[1].create(trained_weights_key(trial(2)), b"retrained")
    roots[1].create(made_again_key(trial(2)), b"{}")
    commit(target, KIND, rows(2, test_accuracy=75.0))
    merge(roots, target)
    assert list(target.keys("weights")) == []


def test_larger_files_than_any_result_are_not_read(
    roots: tuple[Store, Store], target: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = trial_key(KIND, trial(1))
    roots[0].replace(key, bytes(most_bytes(KIND) + 1))
    with refused(Code.WRONG_PLACE, key, f"{most_bytes(KIND):,}", kind=DamagedFile, file=f"{roots[0].uri}/{key}"):
        merge(roots, target)
    assert everything(target) == {}
