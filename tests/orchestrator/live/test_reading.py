"""Reading a root that grows: the same answer as `status`, each file once, and damaged files named."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.errors import Code, RootGone, StorageFailure
from jobs.results import FailureKind, LocalStore, Store, compact, open_store, record_failure
from jobs.results.failures import Failure
from jobs.results.launches import timestamp
from jobs.results.layout import CURRENT, trial_key
from orchestrator.live import reading
from orchestrator.live.contents import Contents
from orchestrator.live.progress import pace, work_of
from orchestrator.live.reading import Reader
from orchestrator.live.studies import Planned, planned, recorded, standing
from orchestrator.planning.gpus import gpu
from orchestrator.planning.pace import Pace
from orchestrator.planning.status import status_of
from orchestrator.study.history import recorded_study
from tests.orchestrator.live.roots import KIND, OTHER_KIND, Counting, Sweep
from tests.support import refused

ROOTS = Path(__file__).parents[2] / "roots"


class Failing(LocalStore):
    """Fails once: at the n-th object that is read."""

    def __init__(self, directory: Path, number: int) -> None:
        super().__init__(directory)
        self.left = number
        self._counting = threading.Lock()

    def _count(self) -> None:
        with self._counting:
            self.left -= 1
            fails = self.left == 0
        if fails:
            raise StorageFailure(Code.STORAGE, "the storage does not respond")

    def read(self, key: str) -> bytes:
        self._count()
        return super().read(key)

    def read_within(self, key: str, most: int) -> bytes:
        self._count()
        return super().read_within(key, most)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def sweep(root: Path) -> Sweep:
    return Sweep(LocalStore(root))


def agrees_with_status(store: Store, contents: Contents) -> None:
    """Require that the live page and `status` count alike, for every launched study."""
    for record in recorded(contents):
        plan = planned(record, store.uri)
        assert isinstance(plan, Planned)
        now, expected = standing(plan, contents), status_of(store, recorded_study(store, record.name), contents.at)
        assert (now.done, now.quarantined, now.running) == (expected.done, expected.quarantined, expected.running)
        assert now.failed == expected.failed
        assert now.damaged.keys() == expected.damaged.keys()
        assert len(now.pending) == expected.pending
        assert sum(map(len, now)) == expected.planned
        assert pace(contents, plan, now.done, work_of(plan, gpu("A10G"))) == (
            expected.pace
            if any(launch.study == record.name and launch.alive(contents.at) for launch in contents.launches)
            else Pace()
        )


def test_a_root_that_grows_is_read_like_status(root: Path, sweep: Sweep) -> None:
    """Also the rate and the time left: two minutes a trial; the first one finished before the launch began."""
    store = Counting(root)
    reader, specs = Reader(store), sweep.specs
    agrees_with_status(open_store(root), reader.look())
    for at, spec in enumerate(specs[:12]):
        sweep.commit(spec)
        sweep.beat(*specs[at + 1 : at + 4])
        if at == 3:
            sweep.fail(specs[5])
        if at in (6, 8):
            sweep.fail(specs[20], "the same", attempt=1 + (at == 8))
        if at == 7:
            compact(sweep.store, "finetune")
        contents = reader.look()
        assert contents.results.keys() == {one.trial_id for one in specs[: at + 1]}
        assert contents.evaluations.keys() == contents.runs.keys() == contents.results.keys()
        agrees_with_status(open_store(root), contents)
    results = [key for key in store.read_keys if key.startswith("trials/")]
    assert len(results) == 12
    assert {store.read_keys[key] for key in results} == {1}
    assert {store.read_keys[key] for key in store.read_keys if key.startswith(("failures/", "studies/"))} == {1}
    assert contents.evaluations[specs[0].trial_id].epoch == (1, 3, 5)


def test_the_index_is_read_and_not_the_files_that_it_covers(root: Path, sweep: Sweep) -> None:
    sweep.commit(*sweep.specs[:8])
    compact(sweep.store, "finetune")
    sweep.commit(*sweep.specs[8:10])
    store = Counting(root)
    contents = Reader(store).look()
    assert len(contents.evaluations) == 10
    assert sum(key.startswith("trials/") for key in store.read_keys) == 2
    assert contents.unread == 0


def test_the_index_and_the_files_say_the_same(root: Path, sweep: Sweep) -> None:
    sweep.commit(*sweep.specs[:6])
    before = Reader(open_store(root)).look()
    compact(sweep.store, "finetune")
    after = Reader(open_store(root)).look()
    assert (before.evaluations, before.runs, before.recipes) == (after.evaluations, after.runs, after.recipes)


def test_many_files_outside_the_index_are_read_in_several_looks(
    root: Path, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_MOST_FILES", 4)
    sweep.commit(*sweep.specs[:10])
    reader = Reader(open_store(root))
    looks = [reader.look() for _ in range(3)]
    assert [look.unread for look in looks] == [6, 2, 0]
    assert [len(look.evaluations) for look in looks] == [4, 8, 10]
    assert all(len(look.results) == 10 for look in looks)


def test_what_cannot_be_read_is_named_and_the_rest_is_shown(root: Path, sweep: Sweep) -> None:
    first, second, third = sweep.specs[:3]
    sweep.commit(first, second)
    torn = root / trial_key("finetune", second.trial_id)
    torn.write_bytes(torn.read_bytes()[:-40])
    (root / trial_key("finetune", third.trial_id)).parent.mkdir(parents=True, exist_ok=True)
    (root / "trials/finetune/00").mkdir(exist_ok=True)
    (root / "trials/finetune/00/notes.txt").write_text("mine")
    (root / "trials/other").mkdir()
    (root / "trials/other/ab").mkdir()
    (root / "trials/other/ab/other-x-ab00000000000000.parquet").write_bytes(b"")
    (root / "failures/x").mkdir(parents=True)
    (root / "failures/x/1.json").write_text("{")
    (root / "launches/20260102T000000Z-00000000.json").write_text("[]")
    (root / "studies/bad").mkdir()
    (root / "studies/bad/0.yaml").write_text("grid: [")
    (root / "failures/link").symlink_to("/etc/passwd")
    reader = Reader(open_store(root))
    contents = reader.look()
    assert contents.results.keys() == contents.evaluations.keys() == {first.trial_id}
    assert contents.damaged.keys() == {second.trial_id}
    assert torn.name in contents.damaged[second.trial_id]
    said = "\n".join(contents.problems)
    for name in (
        "notes.txt",
        "'other'",
        "failures/x/1.json",
        "20260102T000000Z-00000000",
        "bad/0.yaml",
        "failures/link",
    ):
        assert name in said
    torn.unlink()
    sweep.commit(second)
    contents = reader.look()
    assert contents.damaged == {}
    assert contents.evaluations.keys() == {first.trial_id, second.trial_id}


def test_a_damaged_index_is_said_and_the_files_are_read(root: Path, sweep: Sweep) -> None:
    sweep.commit(*sweep.specs[:3])
    compact(sweep.store, "finetune")
    (root / CURRENT).write_text("{}")
    reader = Reader(open_store(root))
    for contents in (reader.look(), reader.look()):
        assert len(contents.evaluations) == 3
        assert any(CURRENT in problem for problem in contents.problems)


def test_results_that_are_moved_away_are_forgotten(root: Path, sweep: Sweep) -> None:
    sweep.commit(*sweep.specs[:3])
    reader = Reader(open_store(root))
    reader.look()
    gone = sweep.specs[1].trial_id
    (root / trial_key("finetune", gone)).unlink()
    contents = reader.look()
    assert gone not in {**contents.results, **contents.evaluations, **contents.runs}
    agrees_with_status(open_store(root), contents)


def test_checkpoints_of_running_trials_are_read_once(root: Path, sweep: Sweep) -> None:
    first, second, third = sweep.specs[:3]
    sweep.beat(first, second)
    sweep.checkpoint(first)
    sweep.checkpoint(third)  # runs in no live launch
    (root / f"checkpoints/{second.trial_id}").mkdir()
    (root / f"checkpoints/{second.trial_id}/e000002-b000001-0123456789abcdef.safetensors").write_bytes(b"x" * 90)
    reader = Reader(open_store(root))
    contents = reader.look()
    assert contents.running.keys() == {first.trial_id}
    assert contents.running[first.trial_id].host == "worker-7"
    assert reader.look().running == contents.running
    assert contents.shown == reader.look().shown
    sweep.commit(first)
    assert reader.look().running == {}


def test_a_trial_on_several_kinds_of_device_is_mixed(root: Path, sweep: Sweep) -> None:
    sweep.commit(sweep.specs[0], device_kind=f"{KIND} -> {OTHER_KIND}")
    sweep.commit(sweep.specs[1])
    runs = Reader(open_store(root)).look().runs
    assert [runs[spec.trial_id].mixed for spec in sweep.specs[:2]] == [True, False]


@pytest.mark.parametrize("compacted", [0, 4])
def test_a_look_that_fails_loses_nothing(root: Path, sweep: Sweep, compacted: int) -> None:
    """Whichever read of the storage fails, a later look has all results, and says each problem once."""
    sweep.commit(*sweep.specs[:compacted])
    if compacted:
        compact(sweep.store, "finetune")
    sweep.commit(*sweep.specs[compacted:8])
    sweep.fail(sweep.specs[9])
    torn = root / trial_key("finetune", sweep.specs[7].trial_id)
    torn.write_bytes(torn.read_bytes()[:-40])
    plain = Reader(open_store(root)).look()
    fails = 0
    for number in range(1, 1000):
        store = Failing(root, number)
        reader = Reader(store)
        try:
            contents = reader.look()
        except StorageFailure:
            fails += 1
            contents = reader.look()
        assert replace(contents, at=plain.at) == plain
        if store.left > 0:
            break
    assert fails > 8


def test_a_look_that_fails_at_a_restored_result_shows_it_later(root: Path, sweep: Sweep) -> None:
    sweep.commit(*sweep.specs[:3])
    torn = root / trial_key("finetune", sweep.specs[0].trial_id)
    whole = torn.read_bytes()
    torn.write_bytes(whole[:-40])
    store = Failing(root, 1000)
    reader = Reader(store)
    assert reader.look().damaged.keys() == {sweep.specs[0].trial_id}
    torn.write_bytes(whole)
    sweep.commit(sweep.specs[3])
    store.left = 2  # of root.json, and of the first of two results
    with pytest.raises(StorageFailure):
        reader.look()
    contents = reader.look()
    assert (contents.damaged, contents.unread) == ({}, 0)
    assert contents.evaluations.keys() == contents.results.keys() == {one.trial_id for one in sweep.specs[:4]}


def test_a_root_that_disappears_is_an_error(root: Path, sweep: Sweep) -> None:
    reader = Reader(open_store(root))
    reader.look()
    root.rename(root.with_name("elsewhere"))
    with refused(Code.STORAGE, root, kind=RootGone):
        reader.look()


def test_a_root_that_appears_is_read_with_its_index(tmp_path: Path) -> None:
    """As after mounting a directory, or merging into a new root."""
    elsewhere = Sweep(LocalStore(tmp_path / "elsewhere"))
    elsewhere.commit(*elsewhere.specs[:5])
    compact(elsewhere.store, "finetune")
    store = Counting(tmp_path / "root")
    reader = Reader(store)
    before, same = reader.look(), reader.look()
    assert (before.exists, len(before.results), before.problems) == (False, 0, ())
    assert before.shown == same.shown
    assert not (tmp_path / "root").exists()
    (tmp_path / "elsewhere").rename(tmp_path / "root")
    contents = reader.look()
    assert (contents.exists, len(contents.evaluations)) == (True, 5)
    assert contents.shown != before.shown
    assert not any(key.startswith("trials/") for key in store.read_keys), "the index covers all results"
    agrees_with_status(store, contents)


def test_a_root_in_a_bucket_is_waited_for(bucket: str) -> None:
    store = open_store(f"s3://{bucket}/later/root")
    reader = Reader(store)
    assert not reader.look().exists
    assert list(store.keys("")) == []
    sweep = Sweep(store)
    sweep.commit(sweep.specs[0])
    contents = reader.look()
    assert (contents.exists, len(contents.evaluations)) == (True, 1)


@pytest.mark.parametrize("release", ["0.1.0", "0.2.0"])
def test_roots_of_every_release_are_read(release: str) -> None:
    store = Counting(ROOTS / release)
    contents = Reader(store).look()
    assert contents.problems == ()
    assert contents.damaged == {}
    assert len(contents.runs) == len(contents.results) > 10
    agrees_with_status(open_store(ROOTS / release), contents)


def test_a_root_in_a_bucket_is_read(bucket: str) -> None:
    store = open_store(f"s3://{bucket}/a/root")
    sweep = Sweep(store)
    reader = Reader(open_store(store.uri))
    sweep.commit(*sweep.specs[:2])
    sweep.beat(sweep.specs[2])
    sweep.checkpoint(sweep.specs[2])
    sweep.fail(sweep.specs[3])
    contents = reader.look()
    assert (len(contents.evaluations), len(contents.running), len(contents.failures)) == (2, 1, 1)
    agrees_with_status(store, contents)
    sweep.commit(sweep.specs[2])
    assert len(reader.look().evaluations) == 3


def test_failures_are_in_the_order_of_time(root: Path, sweep: Sweep) -> None:
    names = [spec.trial_id for spec in sweep.specs[:3]]
    for day, trial in enumerate(reversed(names)):
        when = f"2026-01-0{day + 1}T00:00:00+00:00"
        record_failure(sweep.store, Failure(trial, 1, FailureKind.ERROR, "E", "r", "h", "", when), "log")
    found = Reader(open_store(root)).look().failures
    assert [failure.trial_id for failure in found] == names[::-1]
    assert timestamp() > found[-1].failed_at
