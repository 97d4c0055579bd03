"""Bundles under Ray: which trials share an actor, what the actor reports per trial, and the numbers of a launch."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from jobs.data.datasets import cached_dataset
from jobs.errors import Code, DamagedFile, MissingData, StorageFailure
from jobs.execution.bundles import attempt_bundle
from jobs.execution.retention import RetentionPolicy
from jobs.kind import plain
from jobs.kinds.finetune.trial import Finetuning
from jobs.results import FailureKind, Store, comparable_columns, done, open_store, pin, read_failures, read_trials
from jobs.results.layout import checkpoints_prefix, launch_key, log_key
from jobs.specs.trial import TrialSpec
from jobs.study.expand import expand
from jobs.study.model import Study
from jobs.system import nvidia
from orchestrator.failures.outcomes import (
    ActorLeaves,
    GpuFailed,
    MachineFailed,
    NodeDraining,
    Outcome,
    State,
    StopCause,
)
from orchestrator.failures.retry_policy import RetryPolicy
from orchestrator.failures.versions import UnfitMachine, versions
from orchestrator.launching.launch import Launching, _run_stage, launch
from orchestrator.launching.launch_state import LaunchState
from orchestrator.launching.local import run_locally
from orchestrator.launching.options import Options
from orchestrator.launching.preparation import Preparation
from orchestrator.launching.progress import Tallies
from orchestrator.launching.retries import Retries
from orchestrator.planning.bundles import bundled
from orchestrator.planning.stages import StageTrials
from orchestrator.ray_tune import trainable, tuner
from orchestrator.ray_tune.callbacks import Reporter
from orchestrator.ray_tune.trainable import TrialActor
from orchestrator.study.load import load_study, parse_study
from tests.orchestrator.in_process import error_file
from tests.support import finetune_specs

pytestmark = pytest.mark.usefixtures("without_ray", "short_tests")

STUDY = """
name: mini
grid:
  source: [fmnist_natural]
  dataset: [digits]
  blocks: [0, 1, 3]
schedule:
  - {images: [30], epochs: 2, seeds: 2, evaluate_every: 1}
resources: {gpu: 0.25, cpu: 1}
checkpoint_every: 1
bundle: blocks
"""


def study() -> Study:
    return parse_study(STUDY, "mini.yaml")


def test_trials_that_differ_only_in_blocks_are_bundled() -> None:
    specs = expand(study())
    bundles = bundled(specs, study().bundle)
    assert [[(spec.seed, spec.blocks) for spec in finetune_specs(bundle)] for bundle in bundles] == [
        [(seed, blocks) for blocks in (0, 1, 3)] for seed in (20_000_000, 20_100_000)
    ]
    assert bundled(specs, "none") == [[spec] for spec in specs]


def test_sources_that_a_study_makes_are_not_bundled() -> None:
    table4 = load_study("paper-table4").model_copy(update={"bundle": "blocks"})
    assert {len(bundle) for bundle in bundled(expand(table4), table4.bundle)} == {4}


def test_a_launch_in_bundles_gives_the_numbers_of_single_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first launch may run four of six trials: a bundle, and one trial of the other."""
    alone, root = open_store(tmp_path / "alone"), open_store(tmp_path / "root")
    for spec in expand(study()):
        run_locally(study(), spec.trial_id, alone, Console(quiet=True))
    sizes = []
    original = tuner.run_round

    def run_round(bundles: list[list[TrialSpec]], *rest: Any) -> None:
        sizes.append([len(bundle) for bundle in bundles])
        original(bundles, *rest)

    monkeypatch.setattr(tuner, "run_round", run_round)
    first = launch(study(), root, Console(quiet=True), Options(max_trials=4))
    assert (first.planned, first.done, first.failed, first.left) == (6, 4, {}, 2)
    second = launch(study(), root, Console(quiet=True))
    assert (second.done, second.failed, second.left) == (6, {}, 0)
    assert sizes == [[3, 1], [2]]
    columns = comparable_columns("finetune")
    mine, expected = (read_trials(store, "finetune").select(columns) for store in (root, alone))
    assert mine.equals(expected)


def test_what_an_actor_committed_before_it_died_is_not_run_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = {spec.trial_id: spec for spec in expand(study())[:1] + expand(study())[2:3]}
    first, second = specs
    rounds = []

    def run_round(bundles: list[list[TrialSpec]], job: object, share: object, state: LaunchState) -> None:
        trials = [spec.trial_id for bundle in bundles for spec in bundle]
        rounds.append(trials)
        run_locally(study(), trials[-1], store, Console(quiet=True))
        crash = Outcome(State.FAILED, (), FailureKind.INFRASTRUCTURE, "ActorDiedError: gone")
        state.round_outcomes = dict.fromkeys(trials, crash)

    monkeypatch.setattr(tuner, "run_round", run_round)
    stage = StageTrials(list(specs), study().resources, RetentionPolicy(1), 1e9, "")
    prepared = Preparation(specs, [stage], {}, "blocks", study().catalog, set(), set(), {}, [])
    state = LaunchState(store, "one", RetryPolicy())
    launching = Launching(prepared, store, Console(quiet=True), Options(), state, Tallies(planned=2))
    _run_stage(launching, stage, {"CPU": 1}, Retries(specs, RetryPolicy(), lambda: 1, lambda trial: "one"))
    assert rounds == [[first, second], [first]]
    assert state.done == 2, "they count as finished by this launch"


# --- the actor ---


def actor(store: Store, monkeypatch: pytest.MonkeyPatch, drain_after: int | None = None) -> TrialActor:
    """An actor with one bundle, without Ray, whose node drains at the n-th check."""
    watcher = SimpleNamespace(asked=0, draining=False)

    def stop() -> bool:
        watcher.asked += 1
        watcher.draining = drain_after is not None and watcher.asked >= drain_after
        return bool(watcher.draining)

    class Watcher:
        def __init__(self, launch: str, actor: str) -> None:
            pass

        def progressed(self) -> None:
            pass

        draining = property(lambda _: watcher.draining)

        def __call__(self) -> bool:
            return stop()

    monkeypatch.setattr(trainable, "StopWatcher", Watcher)
    bundle = bundled(expand(study()), "blocks")[0]
    job = {
        "root": store.uri,
        "launch": "one",
        "cards": study().catalog.own.model_dump(mode="json"),
        "builders": {},
        "versions": versions(),
        "retention": {"checkpoint_every": 1},
        "gpu_share": 0,
        "gpu_memory": 1e9,
        "images_on_gpu": True,
    }
    store.replace(launch_key("one"), b"{}")
    made: TrialActor = object.__new__(TrialActor)
    made.setup({"trials": json.dumps([plain(spec) for spec in bundle]), "job": json.dumps(job)})
    return made


def break_blocks(monkeypatch: pytest.MonkeyPatch, error: type[Exception], message: str, *blocks: int) -> None:
    original = Finetuning.learn

    def learn(self: Finetuning, *batch: Any) -> None:
        if self.spec.blocks in blocks:
            raise error(message)
        original(self, *batch)

    monkeypatch.setattr(Finetuning, "learn", learn)


def answer(actor: TrialActor, leaves: type[ActorLeaves] | None) -> dict[str, Outcome]:
    """Run an actor's trials and return what it reports, by leaving if that is expected."""
    if leaves is None:
        plain = json.loads(actor.step()["outcomes"])
    else:
        with pytest.raises(ActorLeaves) as raised:
            actor.step()
        assert type(raised.value) is leaves
        plain = raised.value.outcomes
    return {trial: Outcome.parse(outcome) for trial, outcome in plain.items()}


@pytest.mark.parametrize(
    ("error", "message", "kind", "leaves"),
    [
        (RuntimeError, "wrong", FailureKind.ERROR, None),
        (MemoryError, "full", FailureKind.MEMORY, None),
        (OSError, "no route", FailureKind.INFRASTRUCTURE, MachineFailed),
        (RuntimeError, "CUDA error: device-side assert triggered", FailureKind.ERROR, GpuFailed),
        (RuntimeError, "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", FailureKind.ERROR, GpuFailed),
        (RuntimeError, "CUDA error: uncorrectable ECC error encountered", FailureKind.INFRASTRUCTURE, GpuFailed),
    ],
)
def test_an_actor_answers_for_each_trial_of_its_bundle(
    error: type[Exception],
    message: str,
    kind: FailureKind,
    leaves: type[ActorLeaves] | None,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not used again if its machine or its process may be at fault."""
    break_blocks(monkeypatch, error, message, 1)
    outcomes = answer(actor(store, monkeypatch), leaves)
    first, broken, last = (spec.trial_id for spec in bundled(expand(study()), "blocks")[0])
    assert {trial: outcome.state for trial, outcome in outcomes.items()} == {
        first: State.DONE,
        broken: State.FAILED,
        last: State.DONE,
    }
    assert outcomes[broken].kind is kind
    assert {outcome.host for outcome in outcomes.values()} == {socket.gethostname()}
    assert done(store, "finetune") == {first, last}
    (failure,) = read_failures(store)
    assert (failure.trial_id, failure.kind, failure.launch) == (broken, kind, "one")


def test_a_trial_whose_gpu_failed_under_another_is_not_charged(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first error has destroyed the context, in which no other trial can compute."""
    break_blocks(monkeypatch, RuntimeError, "CUDA error: an illegal memory access was encountered", 1, 3)
    answer(actor(store, monkeypatch), GpuFailed)
    assert sorted(failure.kind for failure in read_failures(store)) == [FailureKind.ERROR, FailureKind.INFRASTRUCTURE]


def test_an_actor_without_its_gpu_charges_no_trial(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(share: float, planned: float) -> None:
        raise RuntimeError("No CUDA GPUs are available")

    monkeypatch.setattr(trainable, "shared_device", lost)
    outcomes = answer(actor(store, monkeypatch), GpuFailed)
    assert {outcome.kind for outcome in outcomes.values()} == {FailureKind.INFRASTRUCTURE}
    assert len(outcomes) == 3


def test_an_actor_leaves_out_what_another_launch_has_finished(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, last = bundled(expand(study()), "blocks")[0]
    run_locally(study(), second.trial_id, store, Console(quiet=True))
    ran = list[list[TrialSpec]]()

    def attempt(store: Store, specs: list[TrialSpec], *rest: Any) -> Any:
        ran.append(specs)
        return attempt_bundle(store, specs, *rest)

    monkeypatch.setattr(trainable, "attempt_bundle", attempt)
    assert {outcome.state for outcome in answer(actor(store, monkeypatch), None).values()} == {State.DONE}
    assert {outcome.state for outcome in answer(actor(store, monkeypatch), None).values()} == {State.DONE}
    assert ran == [[first, last]]


def ended_by(error: Exception, bundle: list[TrialSpec], folder: Path) -> SimpleNamespace:
    """Return Tune's trial object of an actor that raised, as the driver receives it."""
    config = {"trials": json.dumps([plain(spec) for spec in bundle])}
    file = error_file(error, folder / "error.pkl")
    return SimpleNamespace(trial_id="tune-1", config=config, pickled_error_file=file, error_file=None)


def lacks_a_source(store: Store, monkeypatch: pytest.MonkeyPatch) -> str:
    def missing(*_: object) -> None:
        raise MissingData(Code.MISSING_WEIGHTS, "its weights are not on this machine")

    monkeypatch.setattr("jobs.kinds.finetune.trial.source_weights", missing)
    return "its weights are not on this machine"


def has_damaged_data(store: Store, monkeypatch: pytest.MonkeyPatch) -> str:
    def damaged(*_: object, **__: object) -> None:
        raise DamagedFile(Code.DAMAGED_DATA, "its images have another digest", file="/data/birds")

    cached_dataset.cache_clear()
    monkeypatch.setattr("jobs.data.datasets.read_raw", damaged)
    return "its images have another digest"


def has_other_data(store: Store, monkeypatch: pytest.MonkeyPatch) -> str:
    pin(store, "datasets", "digits", "0" * 64)
    return "the name 'digits' under datasets refers to sha256 0000"


@pytest.mark.parametrize("wrong", [lacks_a_source, has_damaged_data, has_other_data])
def test_a_machine_without_the_drivers_inputs_ends_the_launch_and_charges_no_trial(
    wrong: Callable[[Store, pytest.MonkeyPatch], str], store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    why = wrong(store, monkeypatch)
    with pytest.raises(
        UnfitMachine, match=f"data and source models on every machine; on {socket.gethostname()}: .*{why}"
    ) as raised:
        actor(store, monkeypatch).step()
    bundle = bundled(expand(study()), "blocks")[0]
    state = LaunchState(store, "one", RetryPolicy())
    Reporter(state).on_trial_error(0, [], ended_by(raised.value, bundle, tmp_path))
    assert state.stop == (StopCause.MACHINE, str(raised.value))
    assert {outcome.state for outcome in state.round_outcomes.values()} == {State.STOPPED}
    assert not read_failures(store)


def test_a_machine_whose_gpu_torch_does_not_see_ends_the_launch_and_charges_no_trial(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(nvidia, "count_gpus", lambda: 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    sharing = actor(store, monkeypatch)
    sharing._job["gpu_share"] = 0.25
    with pytest.raises(UnfitMachine, match=f"on {socket.gethostname()}: expected torch to see the GPU") as raised:
        sharing.step()
    state = LaunchState(store, "one", RetryPolicy())
    Reporter(state).on_trial_error(0, [], ended_by(raised.value, bundled(expand(study()), "blocks")[0], tmp_path))
    assert state.stop == (StopCause.MACHINE, str(raised.value))
    assert not read_failures(store)


def test_a_draining_node_does_not_make_a_failed_trial_a_stopped_one(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The trials that are still running are saved at their current state; the driver is told about each one."""
    break_blocks(monkeypatch, RuntimeError, "wrong", 1)
    with pytest.raises(NodeDraining) as raised:
        actor(store, monkeypatch, drain_after=2).step()
    bundle = bundled(expand(study()), "blocks")[0]
    first, broken, last = (spec.trial_id for spec in bundle)
    assert [len(list(store.keys(checkpoints_prefix(trial)))) for trial in (first, broken, last)] == [1, 0, 1]

    state = LaunchState(store, "one", RetryPolicy())
    ended = ended_by(raised.value, bundle, tmp_path)
    Reporter(state).on_trial_start(0, [], ended)
    assert state.in_flight == (first, broken, last)
    Reporter(state).on_trial_error(0, [], ended)
    assert {trial: outcome.state for trial, outcome in state.round_outcomes.items()} == {
        first: State.STOPPED,
        broken: State.FAILED,
        last: State.STOPPED,
    }
    assert len(state.in_flight) == 0


def test_a_crashed_actor_is_a_failure_of_each_trial_of_its_bundle(store: Store, tmp_path: Path) -> None:
    bundle = bundled(expand(study()), "blocks")[0]
    (tmp_path / "error.txt").write_text("ActorDiedError: gone")
    ended = SimpleNamespace(
        trial_id="tune-1", config={"trials": json.dumps([plain(s) for s in bundle])},
        pickled_error_file=None, error_file=str(tmp_path / "error.txt"),
    )  # fmt: skip
    state = LaunchState(store, "one", RetryPolicy())
    Reporter(state).on_trial_start(0, [], ended)
    Reporter(state).on_trial_error(0, [], ended)
    assert {failure.trial_id for failure in read_failures(store)} == {spec.trial_id for spec in bundle}
    assert {outcome.kind for outcome in state.round_outcomes.values()} == {FailureKind.INFRASTRUCTURE}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("what is wrong"), FailureKind.ERROR),
        (MemoryError("what is wrong"), FailureKind.MEMORY),
        (OSError("what is wrong"), FailureKind.INFRASTRUCTURE),
    ],
)
def test_an_actors_own_exception_is_told_as_its_trials_are(
    error: Exception, kind: FailureKind, store: Store, tmp_path: Path
) -> None:
    """It was raised outside of all trials, for example while a device was chosen."""
    bundle = bundled(expand(study()), "blocks")[0]
    state = LaunchState(store, "one", RetryPolicy())
    try:
        raise error
    except type(error):
        ended = ended_by(error, bundle, tmp_path)
    Reporter(state).on_trial_error(0, [], ended)
    failures = read_failures(store)
    assert {(failure.kind, failure.error, failure.reason) for failure in failures} == {
        (kind, type(error).__name__, "what is wrong")
    }
    log = store.read(log_key(bundle[0].trial_id, 1)).decode()
    assert f"{type(error).__name__}: what is wrong" in log
    assert __name__.rpartition(".")[2] in log, "the traceback"
    assert "\x1b" not in log


def test_what_the_root_refuses_to_an_actor_stops_the_launch(store: Store, tmp_path: Path) -> None:
    bundle = bundled(expand(study()), "blocks")[0]
    state = LaunchState(store, "one", RetryPolicy())
    refused = StorageFailure(Code.STORAGE, "access was denied", file=store.uri, refuses=True)
    Reporter(state).on_trial_error(0, [], ended_by(refused, bundle, tmp_path))
    assert state.stop == (StopCause.STORAGE, "access was denied")
