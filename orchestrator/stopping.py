"""How a trial in an actor learns that it should leave, and how its driver learns that it goes on.

It leaves when its launch is stopping or its node drains. Its question, asked again and again between batches, is the
sign that it does not hang.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import ray
from ray._private.state import state as cluster_state
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

POLL_SECONDS = 0.5
_SIGN_SECONDS = 5.0
"""Between two signs of an actor that has no time to ask."""
_LISTEN_SECONDS = 10.0
"""Between two questions of the driver."""
_ANSWER_SECONDS = 5.0
"""That an actor waits for an answer; a flag that hangs must not hold it up."""
_LATER_SECONDS = 60.0
"""To an actor's next question, after one that had no answer."""
_PATIENCE_SECONDS = 60.0
"""That the driver waits for one, before it has the flag started again."""


@ray.remote(num_cpus=0)
class StopFlag:
    """One a launch, found by name; it lives as long as the driver."""

    def __init__(self) -> None:
        self._set = False
        self._heard_at: dict[str, float] = {}

    def set(self) -> None:
        self._set = True

    def is_set(self, actor: str) -> bool:
        """Asked by an actor, which thereby shows that it goes on."""
        self._heard_at[actor] = time.monotonic()
        return self._set

    def silent_seconds(self, actors: Sequence[str]) -> dict[str, float]:
        """Since the last sign of each of these actors that was heard; the others are forgotten."""
        now = time.monotonic()
        self._heard_at = {actor: self._heard_at[actor] for actor in actors if actor in self._heard_at}
        return {actor: now - at for actor, at in self._heard_at.items()}


def raise_flag_for(launch: str) -> Any:
    """The launch's flag, not set yet. Hold the handle as long as the launch lasts.

    It stands on the driver's own machine, whose loss ends the launch anyway, and comes back when it is killed.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"name": _flag_name(launch), "max_restarts": -1, "scheduling_strategy": here}
    return StopFlag.options(**options).remote()  # type: ignore[attr-defined]


def _flag_name(launch: str) -> str:
    return f"deltasweep-stop-{launch}"


class Listener:
    """Asks the flag, every ``_LISTEN_SECONDS`` and without waiting, how long actors have been silent.

    A flag that does not answer hangs itself, and is started again.
    """

    def __init__(self, flag: Any) -> None:
        self._flag = flag
        self._asked: Any = None
        self._next = 0.0

    def __call__(self, actors: Sequence[str]) -> dict[str, float] | None:
        """None: no answer yet."""
        if self._asked is None:
            if time.monotonic() >= self._next:
                self._next = time.monotonic() + _LISTEN_SECONDS
                self._asked = self._flag.silent_seconds.remote(actors)
            return None
        ready, _ = ray.wait([self._asked], timeout=0)
        if not ready:
            if time.monotonic() >= self._next - _LISTEN_SECONDS + _PATIENCE_SECONDS:
                self._asked = None
                ray.kill(self._flag, no_restart=False)
            return None
        (answer,), self._asked = ready, None
        try:
            silent: dict[str, float] = ray.get(answer)
        except ray.exceptions.RayActorError:  # it comes back, and has forgotten
            return None
        return silent


class NodeDraining(Exception):
    """The actor's node is going away; its trials have saved themselves and run elsewhere in the next round."""

    def __init__(self, outcomes: dict[str, dict[str, object]]) -> None:
        super().__init__(outcomes)
        self.outcomes = outcomes
        """What became of each trial, by its id (``Outcome.plain``)."""


class StopWatcher:
    """Asked between any two batches; looks at the cluster every ``POLL_SECONDS`` at most."""

    def __init__(self, launch: str, actor: str) -> None:
        """
        Args:
            actor: its name among those of the launch: the id of its first trial.
        """
        self._name = _flag_name(launch)
        self._actor = actor
        self._flag: Any = None
        self._node = ray.get_runtime_context().get_node_id()
        self._next = self._next_sign = 0.0
        self.stopping = False
        self.draining = False

    def __call__(self) -> bool:
        """Whether the trial should save and leave now."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + POLL_SECONDS
            self._next_sign = time.monotonic() + _SIGN_SECONDS
            self.stopping = self._flag_is_set()
            # The public API has no call for "is my node draining"; Ray Serve uses this one.
            self.draining = self._node in cluster_state.get_draining_nodes()
        return self.stopping or self.draining

    def progressed(self) -> None:
        """Show that the trial goes on where it does not ask, as in a long evaluation. It waits for no answer."""
        if time.monotonic() >= self._next_sign:
            self._next_sign = time.monotonic() + _SIGN_SECONDS
            with suppress(ray.exceptions.RayActorError, ValueError):
                self._found().is_set.remote(self._actor)

    def _flag_is_set(self) -> bool:
        """A flag that cannot be reached now is asked again later: it must never fail a trial."""
        try:
            return bool(ray.get(self._found().is_set.remote(self._actor), timeout=_ANSWER_SECONDS))
        except ray.exceptions.GetTimeoutError:
            self._next = time.monotonic() + _LATER_SECONDS
            return self.stopping
        except (ray.exceptions.RayActorError, ValueError):
            self._flag = None
            return self.stopping

    def _found(self) -> Any:
        """Raises ValueError when there is no flag under the name."""
        self._flag = self._flag or ray.get_actor(self._name)
        return self._flag
