"""kill -9 of every type of process at random moments; the results equal those of an undisturbed run."""

import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from jobs.results import FailureKind, open_store, read_failures
from tests.durability.clusters import TestCluster
from tests.durability.processes import Process, alive, find, wait_until
from tests.durability.sweep import SMALL, Rows, Run, Sweep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ACTORS, FLAGS, RAYLETS, DRIVERS, EVERYTHING = 9, 1, 3, 4, 4
"""Kills of each kind; every test asserts its own."""


def test_the_suite_kills_at_least_twenty_times() -> None:
    assert ACTORS + FLAGS + RAYLETS + DRIVERS + EVERYTHING >= 20


@pytest.mark.slow(340)
def test_actors_are_killed(sweep: Sweep, make_cluster: Callable[[int], TestCluster], reference: Rows) -> None:
    """In one launch: first trials in their first attempt, then some that were killed before."""
    rng = random.Random(3)
    cluster = make_cluster(2)
    run = sweep.start("launch", "--address", cluster.address)
    for number in range(ACTORS):
        saved = number % 4 != 3
        again = number >= 6
        actor = run.wait_until(
            partial(_target, sweep, cluster.family, saved, again),
            f"a trial that runs (with a checkpoint: {saved}, killed before: {again})",
        )
        time.sleep(rng.uniform(0, 0.5))
        sweep.strike("actor", [actor], [actor])
    assert run.wait() == 0, run.text
    failures = read_failures(open_store(str(sweep.root)))
    assert len(failures) == ACTORS
    assert {failure.kind for failure in failures} == {FailureKind.INFRASTRUCTURE}
    assert {failure.error for failure in failures} == {"ActorDiedError"}, "what Ray says of a dead actor is lost"
    assert len(sweep.kills) == ACTORS
    assert 2 * sum(made.hit_a_checkpoint for made in sweep.kills) >= len(sweep.kills)
    sweep.require_same_as(reference)
    sweep.require_little_twice()


@pytest.mark.sample
@pytest.mark.slow(70)
@pytest.mark.parametrize("sweep", [SMALL], indirect=True, ids=["small"])
def test_the_actor_that_tells_trials_to_stop_is_killed(
    sweep: Sweep, make_cluster: Callable[[int], TestCluster], reference: Rows
) -> None:
    """It may run on any node. Its death charges no trial, and no trial crashes repeatedly."""
    cluster = make_cluster(2)
    run = sweep.start("launch", "--address", cluster.address)
    run.wait_until(partial(_target, sweep, cluster.family, saved=True), "a trial with a checkpoint")
    (flag,) = [process for process in cluster.family() if process.command.startswith("ray::StopFlag")]
    actors = sweep.actors(cluster.family())
    sweep.strike("flag", [flag], actors)
    assert run.wait() == 0, run.text
    failures = read_failures(open_store(str(sweep.root)))
    assert [failure for failure in failures if failure.kind is FailureKind.ERROR] == []
    assert len(failures) <= len(actors), f"trials that ran later failed too: {failures}"
    sweep.require_same_as(reference)
    sweep.require_little_twice()


@pytest.mark.slow(90)
@pytest.mark.parametrize("sweep", [{**SMALL, "bundle": "blocks"}], indirect=True, ids=["bundles"])
def test_the_actor_of_a_bundle_is_killed(
    sweep: Sweep, make_cluster: Callable[[int], TestCluster], reference: Rows
) -> None:
    """All its trials resume together and reach the same numbers as alone."""
    cluster = make_cluster(2)
    run = sweep.start("launch", "--address", cluster.address)
    actor = run.wait_until(partial(_target, sweep, cluster.family, saved=True), "a trial with a checkpoint")
    hit = {b.trial for b in sweep.trace() if b.pid == actor.pid}
    sweep.strike("actor", [actor], [actor])
    assert run.wait() == 0, run.text
    assert {sweep.specs[trial].blocks for trial in hit} == {0, 3}, "the actor ran no bundle"
    failures = read_failures(open_store(str(sweep.root)))
    assert {failure.trial_id for failure in failures} <= hit
    assert failures
    sweep.require_same_as(reference)


@pytest.mark.slow(350)
def test_raylets_of_a_second_node_are_killed(
    sweep: Sweep, make_cluster: Callable[[int], TestCluster], reference: Rows
) -> None:
    """The launch continues on the remaining node and on its replacement."""
    rng = random.Random(4)
    cluster = make_cluster(1)
    node = cluster.add(2)
    run = sweep.start("launch", "--address", cluster.address)
    for number in range(RAYLETS):
        run.wait_until(partial(_target, sweep, node.family, saved=True), "trials on the second node")
        time.sleep(rng.uniform(0, 0.5))
        actors = sweep.actors(node.family())
        sweep.strike("raylet", [node.raylet], actors)
        # its workers notice its death only once its parent has been told
        cluster.remove(node)
        wait_until(partial(_ended, actors), "the dead node's actors ended")
        if number < RAYLETS - 1:
            # Tune gives a waiting trial to the first free actor and cancels the new actor that it had begun to start,
            # so trials must last longer than the start of an actor, on any machine
            sweep.disturb(seconds=2)
            node = cluster.add(2)
            run.wait_until(partial(_trials_on, sweep, node.family), "a trial runs on the new node")
            sweep.disturb()
    assert run.wait() == 0, run.text
    assert len(sweep.kills) == RAYLETS
    assert 2 * sum(made.hit_a_checkpoint for made in sweep.kills) >= len(sweep.kills)
    sweep.require_same_as(reference)
    sweep.require_little_twice()


@pytest.mark.slow(450)
def test_drivers_and_everything_are_killed(make_sweep: Callable[..., Sweep], folder: Path, reference: Rows) -> None:
    """Launches with a separate Ray: the driver alone is killed, or with all its processes; then ``resume``."""
    sweep = make_sweep(images=(100,))
    rng = random.Random(5)
    kinds = ["driver"] * DRIVERS + ["everything"] * EVERYTHING
    rng.shuffle(kinds)
    finished = 0
    for number, kind in enumerate(kinds):
        run = _start(sweep, folder, number)
        run.wait_until(partial(_target, sweep, run.family, saved=True), "a trial with a checkpoint")
        time.sleep(rng.uniform(0, 0.5))
        family = run.family()
        actors = sweep.actors(family)
        sweep.strike(kind, [find(run.process.pid), *(family if kind == "everything" else ())], actors)
        run.wait()
        # Ray's own agents check for their parents once a minute; trial actors end with their raylet
        wait_until(partial(_ended, actors), f"the actors of a killed {kind} ended", 60)
        finished += sweep.done() == sweep.specs.keys()
    last = _start(sweep, folder, len(kinds))
    assert last.wait() == 0, last.text
    assert len(sweep.kills) == DRIVERS + EVERYTHING
    assert 2 * sum(made.hit_a_checkpoint for made in sweep.kills) >= len(sweep.kills)
    status = sweep.status()
    told = len(status["stale_launches"]) + len(status["live_launches"])
    # a launch whose last trial ended just before the kill has said so itself, and there is no launch after it
    assert len(sweep.kills) - finished <= told <= len(sweep.kills)
    assert finished <= 1
    sweep.require_same_as(reference)
    sweep.require_little_twice()


def _start(sweep: Sweep, folder: Path, number: int) -> Run:
    temporary = folder / f"ray{number}"
    temporary.mkdir()
    return sweep.start("resume" if number else "launch", temporary=temporary)


def _ended(processes: list[Process]) -> bool:
    return not any(map(alive, processes))


def _trials_on(sweep: Sweep, family: Callable[[], list[Process]]) -> dict[int, str]:
    return sweep.running_trials(sweep.actors(family()))


def _target(
    sweep: Sweep, family: Callable[[], list[Process]], saved: bool, again: bool | None = None
) -> Process | None:
    """Return an actor working on a trial that matches the conditions, or None.

    With ``saved``, the trial has a checkpoint. With ``again`` true it was killed before, with false never (None:
    either).
    """
    actors = {actor.pid: actor for actor in sweep.actors(family())}
    hits = sweep.hits()
    for pid, trial in sweep.running_trials(list(actors.values())).items():
        if again in (None, hits[trial] > 0) and (not saved or sweep.checkpoints(trial)):
            return actors[pid]
    return None
