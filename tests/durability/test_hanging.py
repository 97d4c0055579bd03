"""Hanging actors (stopped with SIGSTOP) are ended, and their trials finish in others with the same numbers."""

import os
import signal
from collections.abc import Callable

import pytest

from jobs.results import FailureKind, open_store, read_failures
from orchestrator.launching.hanging import ActorHung
from tests.durability.clusters import TestCluster
from tests.durability.processes import wait_until
from tests.durability.sweep import SMALL, Rows, Sweep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

MINUTES = "0.75"
"""Longer than an actor takes to load torch and images here, even alongside other tests."""


@pytest.mark.parametrize("sweep", [SMALL], indirect=True, ids=["small"])
def test_a_stopped_actor_is_ended_and_its_trial_goes_on_elsewhere(
    sweep: Sweep, make_cluster: Callable[[int], TestCluster], reference: Rows
) -> None:
    cluster = make_cluster(2)
    run = sweep.start("launch", "--address", cluster.address, "--hang-after", MINUTES)
    run.wait_until(lambda: sweep.running_trials(sweep.actors(cluster.family())), "a trial runs")
    stopped, *_ = sweep.actors(cluster.family())
    os.kill(stopped.pid, signal.SIGSTOP)
    trial = sweep.running_trials([stopped])[stopped.pid]
    assert run.wait() == 0, run.text
    failures = [f for f in read_failures(open_store(str(sweep.root))) if f.error == ActorHung.__name__]
    assert [(f.trial_id, f.kind) for f in failures] == [(trial, FailureKind.INFRASTRUCTURE)]
    assert {b.pid for b in sweep.trace() if b.trial == trial} > {stopped.pid}, "no other actor took the trial"
    wait_until(lambda: stopped not in cluster.family(), "the stopped process is gone", 60)
    sweep.require_same_as(reference)


@pytest.mark.parametrize("sweep", [SMALL], indirect=True, ids=["small"])
def test_a_stopped_flag_holds_up_no_trial(
    sweep: Sweep, make_cluster: Callable[[int], TestCluster], reference: Rows
) -> None:
    """The actor that tells trials to stop is restarted, and no trial's actor is considered hanging."""
    cluster = make_cluster(2)
    run = sweep.start("launch", "--address", cluster.address, "--hang-after", MINUTES)
    run.wait_until(lambda: sweep.running_trials(sweep.actors(cluster.family())), "a trial runs")
    sweep.disturb(seconds=1)  # the launch takes longer than the flag may be silent
    (flag,) = [process for process in cluster.family() if process.command.startswith("ray::StopFlag")]
    os.kill(flag.pid, signal.SIGSTOP)
    run.wait_until(lambda: flag not in cluster.family(), "the stopped flag was ended")
    sweep.disturb()
    assert run.wait() == 0, run.text
    assert read_failures(open_store(str(sweep.root))) == []
    sweep.require_same_as(reference)
