"""SIGINT, SIGTERM and a node's notice: running trials save at a batch boundary, and no batch is executed twice."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.durability.clusters import TestCluster
from tests.durability.processes import wait_until
from tests.durability.sweep import SMALL, Rows, Run, Sweep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

INTERRUPTED = 130


@pytest.mark.slow(160)
def test_stop_again_and_again(make_sweep: Callable[..., Sweep], folder: Path, reference: Rows) -> None:
    """Ctrl-C, then SIGTERM, then Ctrl-C twice, each on the resumed sweep, which finally finishes."""
    sweep = make_sweep(images=(75,))
    first = _at_work(sweep, "launch", folder)
    first.interrupt()
    _require_saved(sweep, first)
    second = _at_work(sweep, "resume", folder)
    second.process.send_signal(signal.SIGTERM)
    _require_saved(sweep, second)
    assert not sweep.twice(), "batches were executed twice although every stop was an orderly one"
    before = _at_work(sweep, "resume", folder)
    committed = {trial: sweep.result(trial) for trial in sweep.done()}
    sweep.disturb(seconds=20)  # no trial reaches its next batch boundary soon
    before.interrupt()
    before.wait_until(lambda: "Repeat to exit at once" in before.text, "the answer to the first Ctrl-C")
    before.interrupt()
    assert before.wait(15) == INTERRUPTED, before.text
    wait_until(lambda: not before.survivors(), "the processes of the launch ended", 30)
    assert {trial: sweep.result(trial) for trial in committed} == committed
    sweep.disturb()
    last = _start(sweep, "resume", folder)
    assert last.wait() == 0, last.text
    sweep.require_same_as(reference)


@pytest.mark.sample
@pytest.mark.slow(90)
@pytest.mark.parametrize("sweep", [SMALL], indirect=True, ids=["small"])
def test_a_node_drains(sweep: Sweep, make_cluster: Callable[[int], TestCluster], reference: Rows) -> None:
    """The node's trials save and continue on the other one; nothing counts as a failure."""
    cluster = make_cluster(1)
    node = cluster.add(2)
    sweep.disturb(seconds=2)  # a trial must last longer than the notice takes to arrive, on any machine
    run = sweep.start("launch", "--address", cluster.address)
    run.wait_until(lambda: sweep.running_trials(sweep.actors(node.family())), "a trial runs on the second node")
    leaving = set(sweep.running_trials(sweep.actors(node.family())).values())
    cluster.drain(node, deadline_seconds=120)
    run.wait_until(lambda: not sweep.running_trials(sweep.actors(node.family())), "the node has no running trials")
    sweep.disturb()
    moved = leaving - sweep.done()
    assert all(sweep.last_checkpoint(trial) == sweep.next_position(trial) for trial in moved)
    assert run.wait() == 0, run.text
    assert not sweep.twice(), "batches were executed twice although the node gave notice"
    assert not list((sweep.root / "failures").rglob("*.json")), "a drained node was counted as a failure"
    pids = {trial: {b.pid for b in sweep.trace() if b.trial == trial} for trial in moved}
    assert moved
    assert all(len(found) == 2 for found in pids.values()), "the trials did not move to another actor"
    sweep.require_same_as(reference)


def _start(sweep: Sweep, verb: str, folder: Path) -> Run:
    temporary = folder / f"ray{len(sweep.runs)}"
    temporary.mkdir()
    return sweep.start(verb, temporary=temporary)


def _at_work(sweep: Sweep, verb: str, folder: Path) -> Run:
    """Start a launch and wait until a running trial has a checkpoint."""
    run = _start(sweep, verb, folder)
    run.wait_until(lambda: _progress(sweep, run), "a trial that runs, with a checkpoint")
    return run


def _progress(sweep: Sweep, run: Run) -> bool:
    return any(sweep.checkpoints(trial) for trial in sweep.running_trials(sweep.actors(run.family())).values())


def _require_saved(sweep: Sweep, run: Run) -> None:
    """Require a stop as requested: each unfinished trial's checkpoint is exactly where its trace ends."""
    assert run.wait() == INTERRUPTED, run.text
    assert "deltasweep resume" in run.text
    begun = {b.trial for b in sweep.trace()} - sweep.done()
    assert begun
    where = {trial: (sweep.last_checkpoint(trial), sweep.next_position(trial)) for trial in begun}
    assert all(saved == after for saved, after in where.values()), where
    wait_until(lambda: not run.survivors(), "the processes of the launch ended", 60)
    counts = sweep.status()
    assert counts["done"] == len(sweep.done()), counts
    assert counts["failed"] == counts["quarantined"] == 0, counts
    assert counts["live_launches"] == counts["stale_launches"] == [], counts
