"""How a trial in an actor learns that it should leave: its launch is stopping, or its node drains."""

import time

import ray
from ray._private.state import state as cluster_state

POLL_SECONDS = 0.5


@ray.remote(num_cpus=0)
class StopFlag:
    """One a launch, found by name; it lives as long as the driver."""

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set


def flag_name(launch: str) -> str:
    return f"deltasweep-stop-{launch}"


class NodeDraining(Exception):
    """The actor's node is going away; the trial has saved itself and runs elsewhere in the next round."""


class StopWatcher:
    """Asked between any two batches; looks at the cluster every ``POLL_SECONDS`` at most."""

    def __init__(self, launch: str) -> None:
        self._flag = ray.get_actor(flag_name(launch))
        self._node = ray.get_runtime_context().get_node_id()
        self._next = 0.0
        self.stopping = False
        self.draining = False

    def __call__(self) -> bool:
        """Whether the trial should save and leave now."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + POLL_SECONDS
            self.stopping = bool(ray.get(self._flag.is_set.remote()))
            # The public API has no call for "is my node draining"; Ray Serve uses this one.
            self.draining = self._node in cluster_state.get_draining_nodes()
        return self.stopping or self.draining
