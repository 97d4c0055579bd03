"""A machine on which every trial fails ends the launch before it has failed all of them, and is named."""

import socket
from pathlib import Path

import pytest
from rich.console import Console

from jobs.errors import Code, StorageFailure
from jobs.kinds.finetune.trial import Finetuning
from jobs.results import FailureKind, Store, open_store, read_failures
from orchestrator.failures.outcomes import Outcome, State, StopCause
from orchestrator.failures.retry_policy import RetryPolicy
from orchestrator.launching.hosts import HostFailures
from orchestrator.launching.launch import launch
from orchestrator.launching.options import Options
from orchestrator.ray_tune import trainable
from orchestrator.study.load import parse_study
from tests.orchestrator.in_process import replace_ray

FAILED = Outcome(State.FAILED, (), FailureKind.INFRASTRUCTURE, "OSError: no route", host="bad")
DONE = Outcome(State.DONE, host="bad")
STUDY = """
name: mini
grid: {source: [fmnist_natural], dataset: [digits], blocks: [0]}
schedule: [{images: [20], epochs: 1, seeds: 6, evaluate_every: 1}]
"""


@pytest.fixture
def hosts() -> HostFailures:
    return HostFailures(RetryPolicy(host_failures=3))


def run(hosts: HostFailures, trial: str, outcome: Outcome = FAILED) -> str | None:
    hosts.started(trial)
    return hosts.ended(trial, {trial: outcome})


def test_different_trials_in_a_row_count(hosts: HostFailures) -> None:
    assert [run(hosts, trial) for trial in "abc"] == [None, None, "bad"]


def test_one_trial_does_not_accuse_a_machine(hosts: HostFailures) -> None:
    assert {run(hosts, "a") for _ in range(20)} == {None}


def test_a_machine_that_has_done_a_trial_is_not_accused(hosts: HostFailures) -> None:
    assert [run(hosts, "a"), run(hosts, "b"), run(hosts, "c", DONE), run(hosts, "d"), run(hosts, "e")] == [None] * 5
    assert run(hosts, "f") == "bad"


def test_machines_are_counted_apart_and_unknown_ones_not(hosts: HostFailures) -> None:
    for number in range(20):
        good = Outcome(State.DONE, host="good")
        assert run(hosts, f"x{number}", good) is None
        assert run(hosts, f"y{number}", FAILED._replace(host="")) is None
    assert [run(hosts, trial) for trial in "abc"] == [None, None, "bad"]


def test_only_failures_of_the_machine_count(hosts: HostFailures) -> None:
    for kind in (FailureKind.ERROR, FailureKind.MEMORY):
        assert {run(hosts, trial, FAILED._replace(kind=kind)) for trial in "abcdef"} == {None}
    assert {run(hosts, trial, Outcome(State.STOPPED, host="bad")) for trial in "abcdef"} == {None}


def test_one_outage_under_many_actors_is_one_failure(hosts: HostFailures) -> None:
    for _ in range(2):
        for trial in "abcdefgh":
            hosts.started(trial)
        assert {hosts.ended(trial, {trial: FAILED}) for trial in "abcdefgh"} == {None}


def test_a_bundle_is_one_failure(hosts: HostFailures) -> None:
    hosts.started("a")
    assert hosts.ended("a", dict.fromkeys("abcd", FAILED)) is None


# --- launches ---


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    replace_ray(monkeypatch, tmp_path)
    return open_store(tmp_path / "root")


@pytest.mark.usefixtures("short_tests")
def test_a_machine_that_fails_at_once_does_not_take_the_whole_queue(
    root: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("Input/output error")

    monkeypatch.setattr(Finetuning, "learn", fail)
    options = Options(retry_policy=RetryPolicy(host_failures=4))
    summary = launch(parse_study(STUDY, "mini.yaml"), root, Console(quiet=True), options)
    assert summary.stop is not None
    assert summary.stop.cause is StopCause.MACHINE
    assert socket.gethostname() in summary.stop.reason
    assert "Input/output error" in summary.stop.reason
    assert (summary.done, summary.failed, summary.left) == (0, {}, 6)
    assert [failure.kind for failure in read_failures(root)] == [FailureKind.INFRASTRUCTURE] * 4


@pytest.mark.usefixtures("short_tests")
def test_a_root_that_refuses_an_actor_ends_the_launch(root: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a bucket does to a machine without credentials, before any trial is opened there."""
    asked = list[str]()

    def opened(uri: str) -> Store:
        store = open_store(uri)

        def hold(*keys: str) -> None:
            asked.extend(keys)
            raise StorageFailure(Code.STORAGE, "access was denied", file=uri, refuses=True)

        monkeypatch.setattr(store, "hold", hold)
        return store

    monkeypatch.setattr(trainable, "open_store", opened)
    summary = launch(parse_study(STUDY, "mini.yaml"), root, Console(quiet=True))
    assert summary.stop == (StopCause.STORAGE, f"on {socket.gethostname()}: access was denied")
    assert (summary.failed, summary.left, len(asked)) == ({}, 6, 1)
