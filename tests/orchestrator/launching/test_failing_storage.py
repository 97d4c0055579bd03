"""A results root that fails during a launch.

There is one message, the launch stops, `resume` continues it, and no trial is charged with a failure.
"""

import errno
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune
from rich.console import Console

from jobs.errors import Code, StorageFailure
from jobs.execution.commit import Attempt
from jobs.paths import data_directory, weights_directory
from jobs.results import FailureKind, open_store, read_failures, read_launches
from jobs.results.local_store import LocalStore
from orchestrator.failures.failure_classification import record_crash, record_error, root_failure
from orchestrator.failures.outcomes import Outcome, State, StopCause
from orchestrator.failures.retry_policy import RetryPolicy
from orchestrator.launching import heartbeat, launch
from orchestrator.launching.launch_state import LaunchState
from orchestrator.launching.options import Options
from orchestrator.ray_tune import tuner
from orchestrator.study.load import parse_study
from tests.file_systems import Disk
from tests.orchestrator.support import Command
from tests.support import refused

pytestmark = pytest.mark.usefixtures("short_tests", "without_ray")

STUDY = """
name: mini
grid: {source: [fmnist_natural], dataset: [digits], blocks: [0]}
schedule: [{images: [20], epochs: 2, seeds: 3, evaluate_every: 1}]
checkpoint_every: 1
"""
FULL = (errno.ENOSPC, errno.EDQUOT)
LASTING = (*FULL, errno.EROFS, errno.EACCES)
Fail = Callable[[str, int], None]


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Return a function that makes the system refuse to write objects below a prefix, as a full disk does."""

    real = {verb: getattr(LocalStore, verb) for verb in ("create", "replace")}

    def refuse(prefix: str, number: int) -> None:
        def refusing(verb: str, store: LocalStore, key: str, data: bytes, **how: Any) -> Any:
            if not key.startswith(prefix):
                return real[verb](store, key, data, **how)
            cause = OSError(number, os.strerror(number))
            file = f"{store.uri}/{key}"
            raise StorageFailure(Code.STORAGE, f"{file}: {cause.strerror}", file=file) from cause

        for verb in real:
            monkeypatch.setattr(LocalStore, verb, lambda *given, _verb=verb, **how: refusing(_verb, *given, **how))

    return refuse


@pytest.fixture
def study(deltasweep: Command) -> str:
    (deltasweep.folder / "mini.yaml").write_text(STUDY, encoding="utf-8")
    return "mini.yaml"


@pytest.mark.parametrize("number", LASTING)
@pytest.mark.parametrize("prefix", ["checkpoints/", "trials/", ""])
def test_a_root_that_refuses_ends_the_launch_at_once(
    prefix: str, number: int, fail: Fail, deltasweep: Command, study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first trial that meets the failure is the last to start; with an empty prefix, all writes fail."""
    began = list[str]()
    run_round = tuner.run_round

    def with_failure(*arguments: Any) -> None:
        fail(prefix, number)
        run_round(*arguments)

    started = LaunchState.started

    def noted(state: LaunchState, run: str, *arguments: Any) -> None:
        began.append(run)
        started(state, run, *arguments)

    monkeypatch.setattr(LaunchState, "started", noted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuner, "run_round", with_failure)
        result = deltasweep("launch", study, "--results", "root")
    assert (result.code, len(began)) == (3, 1), result
    told = [line for line in result.out.splitlines() if line.startswith("Stopped: ")]
    assert len(told) == 1
    assert os.strerror(number) in told[0]
    assert "To resume: deltasweep resume --results root --study mini" in result.out
    assert "Traceback" not in result.out + result.message


@pytest.mark.parametrize("number", FULL)
def test_what_was_done_is_kept_and_resume_goes_on(number: int, fail: Fail, tmp_path: Path) -> None:
    store, study = open_store(tmp_path / "root"), parse_study(STUDY, "mini.yaml")
    first = launch.launch(study, store, Console(quiet=True), Options(max_trials=1))
    assert (first.done, first.stop) == (1, None)
    with pytest.MonkeyPatch.context() as patch:
        replace = LocalStore.replace
        refuse = partial(StorageFailure, Code.STORAGE, "full", file=f"{store.uri}/x")

        def full(store: LocalStore, key: str, data: bytes, **how: bool) -> None:
            if key.startswith("checkpoints/"):
                raise refuse() from OSError(number, os.strerror(number))
            replace(store, key, data, **how)

        patch.setattr(LocalStore, "replace", full)
        stopped = launch.launch(study, store, Console(quiet=True))
    assert stopped.stop is not None
    assert (stopped.stop.cause, stopped.done, stopped.failed, stopped.left) == (StopCause.STORAGE, 1, {}, 2)
    assert launch.launch(study, store, Console(quiet=True)).done == 3


def test_a_root_that_only_one_machine_does_not_reach_ends_no_launch(fail: Fail, tmp_path: Path) -> None:
    """The driver can write to the root, so the trial is retried, as often as for any failing machine."""
    store, study = open_store(tmp_path / "root"), parse_study(STUDY, "mini.yaml")
    fail("trials/", errno.EIO)
    summary = launch.launch(study, store, Console(quiet=True))
    assert (summary.stop, len(summary.failed), summary.done) == (None, 3, 0)
    failures = read_failures(store)
    assert {failure.kind for failure in failures} == {FailureKind.INFRASTRUCTURE}
    assert len(failures) == 3 * RetryPolicy.infrastructure_failures


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_a_root_that_the_driver_does_not_reach_either_ends_the_launch(
    number: int, fail: Fail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, study = open_store(tmp_path / "root"), parse_study(STUDY, "mini.yaml")
    run_round = tuner.run_round

    def with_failure(*arguments: Any) -> None:
        fail("", number)
        run_round(*arguments)

    monkeypatch.setattr(tuner, "run_round", with_failure)
    summary = launch.launch(study, store, Console(quiet=True))
    assert summary.stop is not None
    assert (summary.stop.cause, summary.failed, summary.left) == (StopCause.STORAGE, {}, 3)


@pytest.mark.parametrize("prefix", ["failures/", "logs/"])
def test_a_launch_survives_a_root_that_refuses_to_record_a_failure(prefix: str, fail: Fail, tmp_path: Path) -> None:
    """A failure that could not be recorded is reported instead, with both reasons."""
    store = open_store(tmp_path / "root")
    fail(prefix, errno.EIO)
    for outcome in (
        record_error(store, "trial", Attempt(1, "launch"), ValueError("its own")),
        record_crash(store, "trial", "launch", RuntimeError("its own")),
    ):
        (note,) = outcome.notes
        assert "its own" in note
        assert os.strerror(errno.EIO) in note
        assert outcome.state is State.FAILED
        assert Outcome.parse(outcome.plain()) == outcome
        assert outcome.root_failure is not None
        assert not outcome.root_failure.lasting


@pytest.mark.parametrize("number", LASTING)
def test_that_the_root_refuses_is_not_told_for_each_trial(number: int, fail: Fail, tmp_path: Path) -> None:
    """The launch ends because of it and reports it then."""
    store = open_store(tmp_path / "root")
    fail("", number)
    with pytest.raises(StorageFailure) as caught:
        store.create("trials/x", b"")
    outcome = record_error(store, "trial", Attempt(1, "launch"), caught.value)
    assert (outcome.notes, outcome.root_failure) == ((), (str(caught.value), True))


def test_what_is_not_about_the_root_is_no_failure_of_it(tmp_path: Path) -> None:
    store = open_store(tmp_path / "root")
    elsewhere = StorageFailure(Code.STORAGE, "full", file=tmp_path / "home")
    elsewhere.__cause__ = OSError(errno.ENOSPC, "full")
    assert root_failure(store, elsewhere) is None
    beside = StorageFailure(Code.STORAGE, "full", file=tmp_path / "root-2" / "trials")
    assert root_failure(store, beside) is None
    assert root_failure(store, OSError(errno.ENOSPC, "full")) is None


def test_a_heartbeat_that_meets_a_full_disk_ends_the_launch(
    fail: Fail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This applies even while all trials are far from their next checkpoint."""
    monkeypatch.setattr(heartbeat, "_FIRST_SECONDS", 0.01)
    store, study = open_store(tmp_path / "root"), parse_study(STUDY, "mini.yaml")

    def wait(bundles: object, job: object, share: object, state: LaunchState) -> None:
        fail("launches/", errno.ENOSPC)
        while not state.stopping:
            state.tick()

    monkeypatch.setattr(tuner, "run_round", wait)
    summary = launch.launch(study, store, Console(quiet=True))
    assert summary.stop is not None
    assert summary.stop.cause is StopCause.STORAGE
    (record,) = read_launches(store)
    assert record.ended_at is None, "it could not be written"


@pytest.mark.parametrize("where", ["start", "state"])
def test_a_full_disk_under_ray_itself_is_told(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deltasweep: Command, study: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if where == "start":
        monkeypatch.undo()
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setattr(ray, "init", full)
        with refused(Code.STORAGE, os.strerror(errno.ENOSPC), "TMPDIR", kind=StorageFailure):
            REAL_CONNECT(None)
        return
    monkeypatch.setattr(tune, "Tuner", full)
    monkeypatch.setattr(tuner, "run_round", REAL_ROUND)
    result = deltasweep("launch", study, "--results", "root")
    assert (result.code, os.strerror(errno.ENOSPC) in result.message) == (3, True)


REAL_CONNECT, REAL_ROUND = tuner.connect, tuner.run_round


def test_a_disk_that_is_really_full(disk: Disk, deltasweep: Command, study: str) -> None:
    """All blocks are trained, so that the disk is too small for even one checkpoint."""
    disk.resize("200k")
    deep = deltasweep.folder / "deep.yaml"
    deep.write_text(STUDY.replace("blocks: [0]", "blocks: [-1]"), encoding="utf-8")
    root = str(disk.folder / "root")
    result = deltasweep("launch", "deep.yaml", "--results", root)
    assert (result.code, result.out.count(os.strerror(errno.ENOSPC))) == (3, 1), result
    disk.resize("50m")
    assert deltasweep("resume", "--results", root).code == 0


@pytest.mark.parametrize("home", ["/proc/none", "a file"])
def test_a_machines_folder_that_cannot_be_written_costs_time_only(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deltasweep: Command
) -> None:
    """Resized images and activations are kept in memory instead."""
    (tmp_path / "a file").touch()
    monkeypatch.setenv("DELTASWEEP_HOME", home if home.startswith("/") else str(tmp_path / home))
    monkeypatch.setattr("jobs.data.resize._IN_MEMORY_BYTES", 0)
    kept = STUDY + "recipe: {frozen_batchnorm: source}\n"
    (deltasweep.folder / "mini.yaml").write_text(kept, encoding="utf-8")
    with pytest.warns(UserWarning, match="memory|shared"):
        result = deltasweep("launch", "mini.yaml", "--results", "root")
    assert result.code == 0, result


def test_a_user_without_a_home_has_a_folder_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("DELTASWEEP_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", none)
    assert (
        data_directory().parent
        == weights_directory().parent
        == Path(tempfile.gettempdir()) / f"deltasweep-{os.getuid()}"
    )
