"""An actor that shows no progress is ended and its trials are retried; one that is only slow is not."""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
import torch
from filelock import FileLock
from rich.console import Console
from torch import Tensor, nn

from jobs.catalog.catalog import PACKAGED
from jobs.data import array_cache
from jobs.data.array_cache import MachineCache
from jobs.data.folders import read_image_folder
from jobs.errors import Code, InvalidRequest
from jobs.execution.attempt import open_trial
from jobs.kind import plain
from jobs.kinds.finetune.trial import Finetuning
from jobs.kinds.influence.hessian import Examples, Hessian, pseudo_inverse
from jobs.kinds.influence.influence_functions import fisher_similarities
from jobs.perturbations.pgd import perturb
from jobs.results import FailureKind, open_store, read_failures
from jobs.specs.threat_model import Constraint, ThreatModel
from jobs.specs.trial import TrialSpec
from jobs.study.expand import expand
from jobs.system.progress import computing, progress_heard_by, progressed
from orchestrator.failures.retry_policy import RetryPolicy
from orchestrator.launching import launch, launch_state
from orchestrator.launching.hanging import ActorHung, Silences
from orchestrator.launching.launch_state import LaunchState
from orchestrator.ray_tune import tuner
from orchestrator.ray_tune.callbacks import Reporter
from orchestrator.ray_tune.stop_signal import Listener, StopFlag, StopWatcher
from orchestrator.study.load import parse_study
from tests.jobs.data import made
from tests.orchestrator.in_process import replace_ray
from tests.orchestrator.support import Command
from tests.packaged import packaged_dataset
from tests.support import refused

STUDY = """
name: mini
grid: {source: [fmnist_natural], dataset: [digits], blocks: [0]}
schedule: [{images: [20], epochs: 1, seeds: 2, evaluate_every: 1}]
"""
MINUTE = 60.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def silences(clock: Clock) -> Silences:
    """Two actors that have just started; ten minutes of silence are allowed."""
    made = Silences(RetryPolicy(hang_after_minutes=10), clock)
    made.started("a")
    made.started("b")
    return made


def pass_minutes(clock: Clock, silences: Silences, minutes: int, heard: Callable[[], dict[str, float]]) -> list[str]:
    """Check once a minute, as a driver does; return the actors that hang at the end."""
    hanging: list[str] = []
    for _ in range(minutes):
        clock.now += MINUTE
        hanging = silences.hanging(heard())
    return hanging


def test_an_actor_that_shows_progress_does_not_hang(clock: Clock, silences: Silences) -> None:
    assert pass_minutes(clock, silences, 60, lambda: {"a": 1.0, "b": 9 * MINUTE}) == []


def test_one_that_was_never_heard_hangs_after_its_time(clock: Clock, silences: Silences) -> None:
    """Loading data reports no progress: it may take the allowed time, but no longer."""
    assert pass_minutes(clock, silences, 10, lambda: {"b": 0.0}) == []
    assert pass_minutes(clock, silences, 1, lambda: {"b": 0.0}) == ["a"]


def test_one_that_falls_silent_hangs_after_its_time(clock: Clock, silences: Silences) -> None:
    pass_minutes(clock, silences, 30, lambda: {"a": 0.0, "b": 0.0})
    since = clock.now
    heard = lambda: {"a": clock.now - since, "b": 0.0}  # noqa: E731
    assert pass_minutes(clock, silences, 10, heard) == []
    assert pass_minutes(clock, silences, 1, heard) == ["a"]


def test_what_has_forgotten_accuses_nobody(clock: Clock, silences: Silences) -> None:
    """The actor that records progress was killed and restarted."""
    pass_minutes(clock, silences, 30, lambda: {"a": 0.0, "b": 0.0})
    assert pass_minutes(clock, silences, 9, dict) == []


def test_the_time_in_which_the_driver_stood_still_counts_for_nobody(clock: Clock, silences: Silences) -> None:
    pass_minutes(clock, silences, 5, dict)
    clock.now += 8 * 3600
    assert silences.hanging({}) == []
    assert pass_minutes(clock, silences, 5, dict) == []
    assert pass_minutes(clock, silences, 1, dict) == ["a", "b"]


def test_one_that_ended_or_began_anew_is_not_counted_on(clock: Clock, silences: Silences) -> None:
    pass_minutes(clock, silences, 9, dict)
    silences.ended(["a"])
    silences.started("b")
    assert pass_minutes(clock, silences, 9, dict) == []
    assert silences.actors == ["b"]


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan"), float("inf")])
def test_the_time_is_above_nothing(minutes: float) -> None:
    with refused(Code.WRONG_VALUE, minutes, kind=InvalidRequest, key="--hang-after"):
        RetryPolicy(hang_after_minutes=minutes)


# --- the driver ---


def test_a_hanging_actor_is_ended_and_its_trials_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reporter is called as Tune calls it; the actors of the first round never report progress."""
    replace_ray(monkeypatch, tmp_path)
    clock, killed, run_round = Clock(), list[object](), tuner.run_round
    monkeypatch.setattr(launch_state, "Silences", partial(Silences, clock=clock))
    monkeypatch.setattr(ray, "kill", killed.append)

    def hang_first(bundles: Any, job: Any, share: Any, state: LaunchState) -> None:
        monkeypatch.setattr(tuner, "run_round", run_round)
        reporter = Reporter(state)
        state.listen = lambda actors: {}
        for number, (spec,) in enumerate(bundles):
            config = {"trials": json.dumps([plain(spec)])}
            tune_trial = SimpleNamespace(
                trial_id=f"t{number}",
                config=config,
                temporary_state=SimpleNamespace(ray_actor=f"actor {number}"),
                pickled_error_file=None,
                error_file=None,
            )
            reporter.on_trial_start(0, [], tune_trial)
            for _ in range(31):
                clock.now += 59
                reporter.on_step_begin(0, [])
            reporter.on_trial_error(0, [], tune_trial)

    monkeypatch.setattr(tuner, "run_round", hang_first)
    store = open_store(tmp_path / "root")
    summary = launch.launch(parse_study(STUDY, "mini.yaml"), store, Console(quiet=True))
    assert killed == ["actor 0", "actor 1"]
    assert (summary.done, summary.failed, summary.stop) == (2, {}, None)
    failures = read_failures(store)
    assert {(one.kind, one.error) for one in failures} == {(FailureKind.INFRASTRUCTURE, ActorHung.__name__)}
    assert all("30 minutes (--hang-after)" in one.reason for one in failures)


def test_an_actor_that_hangs_between_two_trials_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tune reports its next run only when it has prepared for it; until then that run is pending, with an actor."""
    clock, killed = Clock(), list[object]()
    monkeypatch.setattr(launch_state, "Silences", partial(Silences, clock=clock))
    monkeypatch.setattr("orchestrator.ray_tune.callbacks.time.monotonic", clock)
    monkeypatch.setattr(ray, "kill", killed.append)
    (spec, other) = expand(parse_study(STUDY, "mini.yaml"))

    def tune_trial(name: str, spec: TrialSpec, status: str, actor: str | None) -> Any:
        config = {"trials": json.dumps([plain(spec)])}
        return SimpleNamespace(
            trial_id=name, status=status, config=config, temporary_state=SimpleNamespace(ray_actor=actor)
        )

    waits, hangs = tune_trial("t0", spec, "PENDING", None), tune_trial("t1", other, "PENDING", "actor")
    state = LaunchState(open_store(tmp_path / "root"), "one", RetryPolicy())
    state.listen = lambda actors: {}
    reporter = Reporter(state)
    for minutes in range(31):
        reporter.on_step_begin(0, [waits, hangs])
        assert state.in_flight == (other.trial_id,)
        assert killed == [], f"after {minutes} minutes"
        clock.now += 59
    for _ in range(2):
        reporter.on_step_begin(0, [waits, hangs])
        clock.now += 59
    assert killed == ["actor"]


def test_one_that_has_prepared_starts_its_time_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, killed = Clock(), list[object]()
    monkeypatch.setattr(launch_state, "Silences", partial(Silences, clock=clock))
    monkeypatch.setattr("orchestrator.ray_tune.callbacks.time.monotonic", clock)
    monkeypatch.setattr(ray, "kill", killed.append)
    spec, _ = expand(parse_study(STUDY, "mini.yaml"))
    trial = SimpleNamespace(
        trial_id="t0",
        status="PENDING",
        config={"trials": json.dumps([plain(spec)])},
        temporary_state=SimpleNamespace(ray_actor="actor"),
    )
    state = LaunchState(open_store(tmp_path / "root"), "one", RetryPolicy())
    state.listen = lambda actors: {}
    reporter = Reporter(state)
    for _ in range(2):
        for _ in range(29):
            reporter.on_step_begin(0, [trial])
            clock.now += 59
        trial.status = "RUNNING"
        reporter.on_trial_start(0, [trial], trial)
    assert killed == []


def test_the_flag_tells_who_was_silent_for_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("orchestrator.ray_tune.stop_signal.time.monotonic", clock)
    flag: Any = StopFlag.__ray_metadata__.modified_class()  # type: ignore[attr-defined]  # a Ray actor class
    flag.is_set("a")
    clock.now += 5
    flag.is_set("b")
    clock.now += 1
    assert flag.silent_seconds(["a", "b", "never"]) == {"a": 6.0, "b": 1.0}
    assert flag.silent_seconds(["b"]) == {"b": 1.0}
    assert flag.silent_seconds(["a", "b"]) == {"b": 1.0}, "what was not asked for is forgotten"


def test_a_flag_that_does_not_answer_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The flag can hang like any actor; meanwhile no actor is considered hanging."""
    clock, killed = Clock(), list[tuple[object, bool]]()
    monkeypatch.setattr("orchestrator.ray_tune.stop_signal.time.monotonic", clock)
    monkeypatch.setattr(ray, "wait", lambda asked, timeout: ([], asked))
    monkeypatch.setattr(ray, "kill", lambda flag, no_restart: killed.append((flag, no_restart)))
    asked = list[object]()

    def ask(actors: object) -> object:
        asked.append(actors)
        return actors

    flag = SimpleNamespace(silent_seconds=SimpleNamespace(remote=ask))
    listen = Listener(flag, patience_seconds=60)
    for _ in range(59):
        assert listen(["a"]) is None
        clock.now += 1
    assert (len(asked), killed) == (1, [])
    for _ in range(3):
        assert listen(["a"]) is None
        clock.now += 1
    assert (len(asked), killed) == (2, [(flag, False)])


@pytest.mark.parametrize("stopping", [False, True])
def test_an_actor_waits_for_no_flag_that_hangs(stopping: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, waited = Clock(), list[float]()

    def hang(_: object, timeout: float) -> None:
        waited.append(timeout)
        raise ray.exceptions.GetTimeoutError

    monkeypatch.setattr("orchestrator.ray_tune.stop_signal.time.monotonic", clock)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "node"))
    monkeypatch.setattr(ray, "get_actor", lambda _: SimpleNamespace(is_set=SimpleNamespace(remote=lambda _: None)))
    monkeypatch.setattr("orchestrator.ray_tune.stop_signal.cluster_state", SimpleNamespace(get_draining_nodes=dict))
    monkeypatch.setattr(ray, "get", hang)
    asked = StopWatcher("launch", "actor")
    asked.stopping = stopping
    for _ in range(50):
        assert asked() is stopping
        clock.now += 1
    assert waited == [5.0], "once a minute, and not for long"


def test_an_actor_hears_of_a_drain_while_the_flag_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, draining = Clock(), dict[str, int]()

    def hang(_: object, timeout: float) -> None:
        raise ray.exceptions.GetTimeoutError

    monkeypatch.setattr("orchestrator.ray_tune.stop_signal.time.monotonic", clock)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "node"))
    monkeypatch.setattr(ray, "get_actor", lambda _: SimpleNamespace(is_set=SimpleNamespace(remote=lambda _: None)))
    cluster = SimpleNamespace(get_draining_nodes=lambda: draining)
    monkeypatch.setattr("orchestrator.ray_tune.stop_signal.cluster_state", cluster)
    monkeypatch.setattr(ray, "get", hang)
    asked = StopWatcher("launch", "actor")
    assert not asked()
    draining["node"] = 0
    clock.now += 1
    assert asked()
    assert (asked.draining, asked.stopping) == (True, False)


def test_a_silent_head_node_makes_no_trial_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object, **__: object) -> None:
        raise ray.exceptions.RaySystemError("Failed to connect to GCS")  # type: ignore[no-untyped-call]  # untyped in Ray

    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "node"))
    monkeypatch.setattr(ray, "get_actor", silent)
    cluster = SimpleNamespace(get_draining_nodes=silent)
    monkeypatch.setattr("orchestrator.ray_tune.stop_signal.cluster_state", cluster)
    assert not StopWatcher("launch", "actor")()


@pytest.mark.usefixtures("without_ray")
def test_the_command_line_takes_the_time_and_refuses_none(deltasweep: Command) -> None:
    (deltasweep.folder / "mini.yaml").write_text(STUDY, encoding="utf-8")
    result = deltasweep("launch", "mini.yaml", "--results", "root", "--hang-after", "0")
    assert (result.code, "--hang-after" in result.message) == (2, True)
    assert not (deltasweep.folder / "root").exists()


# --- signs of progress, for everything that may take long ---


class Ear:
    def __init__(self) -> None:
        self.heard = 0

    def __call__(self) -> None:
        self.heard += 1


@pytest.fixture
def ear() -> Iterator[Ear]:
    made = Ear()
    with progress_heard_by(made):
        yield made


def test_nobody_need_listen() -> None:
    progressed()


def test_a_long_call_into_a_library_is_progress_while_it_computes(ear: Ear) -> None:
    """For example, inverting a matrix with many rows, which never calls into Python until it ends."""
    with computing(every=0.01):
        for _ in range(10_000):
            hashlib.pbkdf2_hmac("sha256", b"", b"", 10_000)
            if ear.heard > 1:
                break
    assert ear.heard > 1


def test_one_that_waits_is_none(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU time of its thread does not advance, however often it is read."""
    looks, enough = list[float](), threading.Event()
    read = time.clock_gettime

    def looked(clock: int) -> float:
        looks.append(read(clock))
        if len(looks) > 5:
            enough.set()
        return looks[-1]

    monkeypatch.setattr("jobs.system.progress.time.clock_gettime", looked)
    with computing(every=0.01):
        enough.wait()
    assert len(set(looks[1:5])) == 1
    assert ear.heard <= 1, "what it did before it waited"


def test_nothing_watches_what_has_ended() -> None:
    with pytest.raises(ZeroDivisionError), computing():
        _ = 1 / 0
    assert not [thread for thread in threading.enumerate() if thread.name == "computing"]


@pytest.mark.parametrize("decided_by", ["eigh", "svd", "cholesky"])
def test_matrices_are_inverted_under_watch(decided_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = list[bool]()

    def seen(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def called(*args: Tensor, **options: Any) -> Tensor:
            watched.append(any(thread.name == "computing" for thread in threading.enumerate()))
            return function(*args, **options)

        return called

    for name in ("pinv", "svd", "cholesky"):
        monkeypatch.setattr(torch.linalg, name, seen(getattr(torch.linalg, name)))
    train = Examples.of(nn.Linear(3, 2), torch.rand(5, 3), torch.tensor([0, 1, 0, 1, 1]))
    match decided_by:
        case "cholesky":
            next(fisher_similarities(train, train, 0.1))
        case "eigh":
            pseudo_inverse(Hessian(train, 0.0))
        case "svd":
            pseudo_inverse(Hessian(train, 0.0), decomposition="svd")
    assert watched == [True]


@pytest.mark.usefixtures("digits")
def test_each_image_that_is_resized_is_progress(ear: Ear) -> None:
    images = packaged_dataset("digits", 48)
    assert ear.heard >= len(images.train.labels_N)


@pytest.mark.usefixtures("weights")
def test_each_file_of_a_dataset_that_is_read_is_progress(ear: Ear, tmp_path: Path) -> None:
    """The files of ImageNet are 150 GB, and a slow disk takes longer to read them than a launch waits."""
    folder = made.write(tmp_path / "insects", made.folder_files())
    read_image_folder(folder, colour=True)
    assert ear.heard == len(list(folder.glob("*/*/*")))


def test_each_batch_of_an_evaluation_is_progress(ear: Ear, tmp_path: Path) -> None:
    """One batch is trained, and its epoch is evaluated in many batches."""
    (spec, _) = expand(parse_study(STUDY + "recipe: {evaluation_batch_size: 20}\n", "mini.yaml"))
    trial = open_trial(open_store(tmp_path / "root"), spec, PACKAGED, torch.device("cpu"))
    assert isinstance(trial, Finetuning)
    before = ear.heard
    trial.advance()
    assert ear.heard - before >= len(trial.data.test.labels_N) / 20


def test_each_part_of_a_file_of_the_machine_is_progress(ear: Ear, tmp_path: Path) -> None:
    cache = MachineCache(tmp_path / "cache", "DELTASWEEP_TEST_GB", 1.0)
    parts = [np.zeros((2, 3), np.uint8)] * 5
    cache.array("name", (10, 3), np.uint8, lambda: parts)
    assert ear.heard == 5


@pytest.mark.parametrize(("writes", "expected"), [(True, True), (False, False)])
def test_waiting_is_progress_as_long_as_another_writes(
    writes: bool, expected: bool, ear: Ear, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array_cache, "_LOOK_SECONDS", 0.05)
    cache = MachineCache(tmp_path / "cache", "DELTASWEEP_TEST_GB", 1.0)
    cache.directory.mkdir()
    part = cache.directory / "other.part"
    part.touch()
    over, looks = threading.Event(), list[int]()
    real = array_cache._written

    def look(path: Path) -> int:
        looks.append(1)
        if writes:
            part.write_bytes(b"x" * len(looks))
            os.utime(part, ns=(len(looks), len(looks) + 10**18))
        if len(looks) >= 5:
            over.set()
        return real(path)

    monkeypatch.setattr(array_cache, "_written", look)
    with FileLock(cache.directory / "ab.lock"):
        waiting = threading.Thread(target=lambda: cache._lock("ab.lock").__enter__(), daemon=True)
        waiting.start()
        assert over.wait(30)
        # the first check finds the file as it is; each later one is progress only if the file was written
        assert (ear.heard > 1) is expected
    waiting.join(30)


def test_each_step_of_an_attack_is_progress(ear: Ear) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    threat = ThreatModel(constraint=Constraint.L2, epsilon=0.5, steps=7)
    perturb(model, torch.rand(2, 3, 2, 2), torch.tensor([0, 1]), threat, None)
    assert ear.heard == 7


def test_each_product_of_a_hessian_is_progress(ear: Ear) -> None:
    fc = torch.nn.Linear(4, 3)
    examples = Examples.of(fc, torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1]))
    Hessian(examples, 0.1).product(torch.rand(2, 3, 5, dtype=torch.float64))
    assert ear.heard == 1
