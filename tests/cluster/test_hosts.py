"""Workers that are lost, leave, are cut off or join late, and a lost head: numbers are those of undisturbed runs."""

import time
from collections.abc import Callable

import pytest

from tests.cluster.hosts import Host
from tests.cluster.ray_cluster import GPUS, RayCluster
from tests.cluster.sweep import FRACTION, ClusterSweep
from tests.durability.sweep import Rows, Run

pytestmark = pytest.mark.timeout(1200)

ACTORS_A_WORKER = int(GPUS / FRACTION)
CUT_SECONDS = 60.0


@pytest.mark.parametrize("root", ["s3"], indirect=True)
def test_workers_come_and_go(make_cluster: Callable[[int], RayCluster], sweep: ClusterSweep, reference: Rows) -> None:
    """One worker is lost at once, one leaves after a notice, one joins late.

    No more trials run concurrently than the GPU fractions allow.
    """
    cluster = make_cluster(3)
    lost, leaving, late = cluster.workers
    cluster.up(lost, leaving)
    run = sweep.start(cluster, cluster.head, "launch", "--address", cluster.address)
    run.wait_until(lambda: cluster.look().running == 2 * ACTORS_A_WORKER, "both workers are full")
    _wait_for_checkpoint(run, sweep, lost)
    interrupted = sweep.running_on(lost)
    lost.kill()
    interrupted -= sweep.done()

    # Tune gives a waiting trial to the first free actor and cancels the new actor that it had begun to start, so trials
    # must last longer than the start of an actor, on any machine
    sweep.disturb(seconds=3)
    late.start()
    run.wait_until(lambda: sweep.running_on(late), "the host that came late has taken work")
    sweep.disturb()

    _wait_for_checkpoint(run, sweep, leaving)
    cluster.give_notice(leaving)
    told = time.monotonic()
    run.wait_until(lambda: not sweep.running_on(leaving) or _moved(cluster, leaving), "the drained host is empty")
    assert time.monotonic() - told < 110, "it took longer than the notice gives"

    assert run.wait() == 0, run.text
    looks = cluster.looks()
    fullest = {host: max(look.running_on(host) for look in looks) for host in cluster.workers}
    assert fullest == dict.fromkeys(cluster.workers, ACTORS_A_WORKER), "fractions were not respected, or not used"
    assert interrupted, "nothing ran on the host that was lost"
    assert all(sweep.hosts_of(trial)[-1] != lost.name for trial in interrupted), "trials did not move on"
    print(
        sweep.summary(), f"; {len(interrupted)} trials were interrupted by the loss; {len(looks)} looks at Ray's state"
    )
    sweep.require_same_as(reference)


@pytest.mark.parametrize("root", ["s3"], indirect=True)
def test_a_worker_is_cut_off_for_a_minute(
    make_cluster: Callable[[int], RayCluster], sweep: ClusterSweep, reference: Rows
) -> None:
    """Its trials run in other actors.

    When the worker is back, what it computed meanwhile does not become a second result.
    """
    cluster = make_cluster(2)
    near, far = cluster.workers
    cluster.up(near, far)
    run = sweep.start(cluster, cluster.head, "launch", "--address", cluster.address)
    _wait_for_checkpoint(run, sweep, far)
    cut = sweep.running_on(far)
    before = cluster.node_id(far)
    far.cut()
    time.sleep(CUT_SECONDS)
    sweep.disturb(seconds=3)  # a fast machine must not be done before the worker is back
    run.wait_until(lambda: not cluster.look().nodes_on(far), "Ray takes the worker for lost, after a minute or so")
    far.mend()
    run.wait_until(lambda: cluster.look().nodes_on(far) - {before}, "the worker has joined again")
    sweep.disturb()
    assert run.wait() == 0, run.text
    assert cut
    actors = {trial: {(b.host, b.pid) for b in sweep.trace() if b.trial == trial} for trial in cut}
    assert any(len(one) > 1 for one in actors.values()), "no trial was begun again by another actor"
    print(sweep.summary(), f"; {len(cut)} trials were cut off")
    sweep.require_same_as(reference)


@pytest.mark.parametrize("root", ["directory"], indirect=True)
def test_the_head_is_lost(make_cluster: Callable[[int], RayCluster], sweep: ClusterSweep, reference: Rows) -> None:
    """The launch ends with the head; ``resume`` on a fresh cluster of the same hosts finishes the study."""
    cluster = make_cluster(2)
    cluster.up(*cluster.workers)
    run = sweep.start(cluster, cluster.head, "launch", "--address", cluster.address)
    run.wait_until(lambda: len(sweep.done()) >= 5, "five trials are done")
    for worker in cluster.workers:
        _wait_for_checkpoint(run, sweep, worker)
    cluster.head.kill()
    run.wait()
    for worker in cluster.workers:
        worker.kill()
    before = sweep.done()
    assert len(before) < len(sweep.specs)
    cluster.up(*cluster.workers)
    again = sweep.start(cluster, cluster.head, "resume", "--address", cluster.address)
    assert again.wait() == 0, again.text
    print(sweep.summary(), f"; {len(before)} were done when the head was lost")
    sweep.require_same_as(reference)


def _wait_for_checkpoint(run: Run, sweep: ClusterSweep, host: Host) -> None:
    run.wait_until(lambda: sweep.saved(sweep.running_on(host)), f"a trial on {host.name} has a checkpoint")


def _moved(cluster: RayCluster, host: Host) -> bool:
    """Return whether Ray sees no living trial actor on the host."""
    return not cluster.look().running_on(host)
