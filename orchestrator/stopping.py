"""How a trial in an actor learns that it should leave: its launch is stopping, or its node drains."""

import time
from typing import Any

import ray
from ray._private.state import state as cluster_state
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

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


def raise_flag_for(launch: str) -> Any:
    """The launch's flag, not set yet. Hold the handle as long as the launch lasts.

    It stands on the driver's own machine, whose loss ends the launch anyway, and comes back when it is killed.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"name": _flag_name(launch), "max_restarts": -1, "scheduling_strategy": here}
    return StopFlag.options(**options).remote()  # type: ignore[attr-defined]


def _flag_name(launch: str) -> str:
    return f"deltasweep-stop-{launch}"


class NodeDraining(Exception):
    """The actor's node is going away; its trials have saved themselves and run elsewhere in the next round."""

    def __init__(self, outcomes: dict[str, dict[str, object]]) -> None:
        super().__init__(outcomes)
        self.outcomes = outcomes
        """What became of each trial, by its id (``Outcome.plain``)."""


class StopWatcher:
    """Asked between any two batches; looks at the cluster every ``POLL_SECONDS`` at most."""

    def __init__(self, launch: str) -> None:
        self._name = _flag_name(launch)
        self._flag: Any = None
        self._node = ray.get_runtime_context().get_node_id()
        self._next = 0.0
        self.stopping = False
        self.draining = False

    def __call__(self) -> bool:
        """Whether the trial should save and leave now."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + POLL_SECONDS
            self.stopping = self._flag_is_set()
            # The public API has no call for "is my node draining"; Ray Serve uses this one.
            self.draining = self._node in cluster_state.get_draining_nodes()
        return self.stopping or self.draining

    def _flag_is_set(self) -> bool:
        """A flag that cannot be reached now is asked again later: it must never fail a trial."""
        try:
            self._flag = self._flag or ray.get_actor(self._name)
            return bool(ray.get(self._flag.is_set.remote()))
        except (ray.exceptions.RayActorError, ValueError):  # ValueError: there is none under the name
            self._flag = None
            return self.stopping
