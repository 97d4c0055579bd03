"""Ray's own autoscaler adds machines for waiting trials and removes idle ones, with the packaged node types."""

from collections.abc import Callable

import pytest

from tests.cluster.ray_cluster import LOOPBACK, RayCluster
from tests.cluster.sweep import ClusterSweep
from tests.durability.processes import wait_until
from tests.durability.sweep import Rows

pytestmark = [pytest.mark.timeout(1200), pytest.mark.parametrize("root", ["directory"], indirect=True)]

MOST = 2
IDLE_MINUTES = 0.2


def test_waiting_trials_bring_machines_and_idle_ones_go(
    make_cluster: Callable[[int], RayCluster], sweep: ClusterSweep, reference: Rows
) -> None:
    cluster = make_cluster(0)
    cluster.up_autoscaling(IDLE_MINUTES, MOST)
    wait_until(cluster.looks, "Ray's state can be seen")
    run = sweep.start(cluster, cluster.head, "launch", "--address", f"{LOOPBACK}:6379")
    run.wait_until(lambda: len(cluster.look().nodes) == MOST, "as many machines came as may")
    assert run.wait() == 0, run.text
    wait_until(lambda: not cluster.look().nodes, "idle machines have gone")
    looks = cluster.looks()
    assert not looks[0].nodes, "machines came before any trial waited"
    assert max(len(look.nodes) for look in looks) == MOST
    assert {node for look in looks for node, actors in look.actors.items() if actors} == {
        node for look in looks for node in look.nodes
    }, "a machine came that ran nothing"
    print(sweep.summary(), f"; {len(looks)} looks at Ray's state")
    sweep.require_same_as(reference)
