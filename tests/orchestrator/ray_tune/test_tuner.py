"""Rounds in a process that has joined Ray itself, such as a notebook: Tune ends no round of its own accord."""

import logging
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import cloudpickle, tune
from ray.tune.tune import _setup_signal_catching
from rich.console import Console

from jobs.results import FailureKind, open_store, read_failures
from jobs.specs.trial import TrialSpec
from jobs.study.expand import expand
from orchestrator.failures.outcomes import StopCause
from orchestrator.failures.retry_policy import RetryPolicy
from orchestrator.launching.launch import launch
from orchestrator.launching.launch_state import LaunchState
from orchestrator.ray_tune import tuner
from orchestrator.ray_tune.callbacks import KeepsHandlers
from orchestrator.study.load import parse_study
from tests.orchestrator.in_process import replace_ray

STUDY = """
name: mini
grid: {source: [fmnist_natural], dataset: [digits], blocks: [0]}
schedule: [{images: [20], epochs: 1, seeds: 3, evaluate_every: 1}]
"""
STOPS = (signal.SIGINT, signal.SIGUSR1)


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """The signals that reach the handlers of the calling process."""
    received = list[int]()
    before = {number: signal.signal(number, lambda number, _: received.append(number)) for number in STOPS}
    yield received
    for number, handler in before.items():
        signal.signal(number, handler)


class Tune:
    """Catches signals as ``tune.run`` does, receives some, and ends. No trial runs."""

    def __init__(self, trainable: object, *, tune_config: object, run_config: Any) -> None:
        self._callbacks = run_config.callbacks

    def fit(self) -> None:
        ended = _setup_signal_catching()
        for callback in self._callbacks:
            callback.setup(stop=None, num_samples=1, total_num_samples=1, name="a round")
        for number in STOPS:
            signal.raise_signal(number)
        assert not ended.is_set()
        assert os.environ["TUNE_DISABLE_SIGINT_HANDLER"] == "1"
        assert not logging.getLogger("ray.tune").isEnabledFor(logging.ERROR)


def test_signals_reach_the_handlers_of_the_process(
    heard: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "Tuner", Tune)
    monkeypatch.delenv("TUNE_DISABLE_SIGINT_HANDLER", raising=False)
    monkeypatch.setattr(logging.getLogger("ray.tune"), "level", logging.INFO)
    specs = expand(parse_study(STUDY, "mini.yaml"))
    state = LaunchState(open_store(tmp_path), "one", RetryPolicy())
    before = [signal.getsignal(number) for number in STOPS]
    tuner.run_round([specs], {}, {"CPU": 1}, state)
    assert heard == list(STOPS)
    assert [signal.getsignal(number) for number in STOPS] == before


def test_handlers_are_no_part_of_tunes_state() -> None:
    kept = KeepsHandlers({signal.SIGINT: lambda number, frame: None})
    assert cloudpickle.loads(cloudpickle.dumps(kept))._handlers == {}  # type: ignore[no-untyped-call]


@pytest.mark.usefixtures("short_tests")
def test_trials_without_an_outcome_are_neither_charged_nor_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_ray(monkeypatch, tmp_path)
    run_round, rounds = tuner.run_round, list[int]()

    def ends_early(bundles: Sequence[Sequence[TrialSpec]], *rest: Any) -> None:
        rounds.append(len(bundles))
        run_round(bundles[:1], *rest)

    monkeypatch.setattr(tuner, "run_round", ends_early)
    store = open_store(tmp_path / "root")
    summary = launch(parse_study(STUDY, "mini.yaml"), store, Console(quiet=True))
    assert summary.stop is not None
    assert summary.stop.cause is StopCause.TUNE
    assert summary.status == "stopped", "nobody interrupted it"
    assert (summary.done, summary.failed, summary.left, rounds) == (1, {}, 2, [3])
    assert read_failures(store) == []


@pytest.mark.parametrize(("joined", "expected"), [(False, True), (True, False)])
def test_a_process_that_has_joined_ray_starts_none(
    joined: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: joined)
    assert tuner.starts_here(None) is expected
    assert not tuner.starts_here("10.0.0.1:6379")


@pytest.mark.slow(60)
@pytest.mark.usefixtures("one_ray")
def test_a_signal_that_tune_would_catch_ends_no_launch(
    heard: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Ray itself: SIGUSR1, which batch systems send as a warning, in the middle of a round."""
    started = LaunchState.started

    def noted(state: LaunchState, *given: Any) -> None:
        started(state, *given)
        if not heard:
            signal.raise_signal(signal.SIGUSR1)

    monkeypatch.setattr(LaunchState, "started", noted)
    ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level=logging.ERROR)
    try:
        store = open_store(tmp_path / "root")
        summary = launch(parse_study(STUDY, "mini.yaml"), store, Console(quiet=True))
        assert ray.is_initialized(), "it is the caller's connection"
    finally:
        ray.shutdown()
    assert heard == [signal.SIGUSR1]
    assert (summary.done, summary.failed, summary.stop) == (3, {}, None)
    assert FailureKind.INFRASTRUCTURE not in {failure.kind for failure in read_failures(store)}
