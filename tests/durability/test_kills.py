"""kill -9 at random moments, of everything there is; the results are those of a run that nothing happened to."""

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
    """It may stand on any node. Its death is nobody's error: no trial is charged, none crashes again and again."""
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


@pytest.mark.slow(350)
def test_raylets_of_a_second_node_are_killed(
    sweep: Sweep, make_cluster: Callable[[int], TestCluster], reference: Rows
) -> None:
    """The launch goes on on the node that is left, and on the one that comes for it."""
    rng = random.Random(4)
    cluster = make_cluster(1)
    node = cluster.add(2)
    run = sweep.start("launch", "--address", cluster.address)
    for number in range(RAYLETS):
        run.wait_until(partial(_target, sweep, node.family, saved=True), "trials on the second node")
        time.sleep(rng.uniform(0, 0.5))
        actors = sweep.actors(node.family())
        sweep.strike("raylet", [node.raylet], actors)
        # its workers see that it died only once its parent has taken note
        cluster.remove(node)
        wait_until(partial(_ended, actors), "the dead node's actors ended")
        if number < RAYLETS - 1:
            # Tune gives a waiting trial to whichever actor is free first, and takes back the new actor that it
            # had begun to start: trials must last longer than an actor takes to start, on any machine
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
    """Launches with a Ray of their own: the driver alone, or with all its processes; then ``resume``."""
    sweep = make_sweep(images=(100,))
    rng = random.Random(5)
    kinds = ["driver"] * DRIVERS + ["everything"] * EVERYTHING
    rng.shuffle(kinds)
    for number, kind in enumerate(kinds):
        run = _start(sweep, folder, number)
        run.wait_until(partial(_target, sweep, run.family, saved=True), "a trial with a checkpoint")
        time.sleep(rng.uniform(0, 0.5))
        family = run.family()
        actors = sweep.actors(family)
        sweep.strike(kind, [find(run.process.pid), *(family if kind == "everything" else ())], actors)
        run.wait()
        # Ray's own agents look after their parents once a minute; trial actors end with their raylet
        wait_until(partial(_ended, actors), f"the actors of a killed {kind} ended", 60)
    last = _start(sweep, folder, len(kinds))
    assert last.wait() == 0, last.text
    assert len(sweep.kills) == DRIVERS + EVERYTHING
    assert 2 * sum(made.hit_a_checkpoint for made in sweep.kills) >= len(sweep.kills)
    assert len(sweep.status()["stale_launches"]) + len(sweep.status()["live_launches"]) == len(sweep.kills)
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
    """An actor at work on a trial, as asked for: with a checkpoint; killed before, or never (None: either)."""
    actors = {actor.pid: actor for actor in sweep.actors(family())}
    hits = sweep.hits()
    for pid, trial in sweep.running_trials(list(actors.values())).items():
        if again in (None, hits[trial] > 0) and (not saved or sweep.checkpoints(trial)):
            return actors[pid]
    return None
