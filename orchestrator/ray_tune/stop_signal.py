"""The stop flag: tells trials in actors when to stop, and tells the driver that they make progress.

Trials stop when their launch is stopping or their node is draining. They poll the flag between batches, and each poll
shows the driver that the actor does not hang.
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
"""Interval between signs of progress of an actor that does not poll."""
_LISTEN_SECONDS = 10.0
"""Interval between polls of the driver."""
_ANSWER_SECONDS = 5.0
"""Time that an actor waits for an answer, short so that a hung flag does not block it."""
_LATER_SECONDS = 60.0
"""Delay of an actor's next question after one without an answer."""


@ray.remote(num_cpus=0)
class StopFlag:
    """The stop flag of a launch, an actor found by name. It lives as long as the driver."""

    def __init__(self) -> None:
        self._set = False
        self._heard_at: dict[str, float] = {}

    def set(self) -> None:
        self._set = True

    def is_set(self, actor: str) -> bool:
        """Return whether the flag is set, and record that ``actor`` makes progress."""
        self._heard_at[actor] = time.monotonic()
        return self._set

    def silent_seconds(self, actors: Sequence[str]) -> dict[str, float]:
        """Return the seconds since the last sign of progress of those actors that have given one. Forget all others."""
        now = time.monotonic()
        self._heard_at = {actor: self._heard_at[actor] for actor in actors if actor in self._heard_at}
        return {actor: now - at for actor, at in self._heard_at.items()}


def raise_flag_for(launch: str) -> Any:
    """Create the launch's flag, not set yet. Keep the handle for the duration of the launch.

    It runs on the driver's machine, whose loss ends the launch anyway, and is restarted if it is killed.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"name": _flag_name(launch), "max_restarts": -1, "scheduling_strategy": here}
    return StopFlag.options(**options).remote()  # type: ignore[attr-defined]


def _flag_name(launch: str) -> str:
    return f"deltasweep-stop-{launch}"


class Listener:
    """Polls the flag for the silence of actors, every ``_LISTEN_SECONDS`` and without blocking.

    A flag that does not answer hangs and is restarted.
    """

    def __init__(self, flag: Any, patience_seconds: float) -> None:
        """
        Args:
            patience_seconds: Time to wait for an answer before restarting the flag.
        """
        self._flag = flag
        self._patience_seconds = patience_seconds
        self._asked: Any = None
        self._next = 0.0

    def __call__(self, actors: Sequence[str]) -> dict[str, float] | None:
        """Return the seconds of silence by actor, or None if there is no answer yet."""
        if self._asked is None:
            if time.monotonic() >= self._next:
                self._next = time.monotonic() + _LISTEN_SECONDS
                self._asked = self._flag.silent_seconds.remote(actors)
            return None
        ready, _ = ray.wait([self._asked], timeout=0)
        if not ready:
            if time.monotonic() >= self._next - _LISTEN_SECONDS + self._patience_seconds:
                self._asked = None
                ray.kill(self._flag, no_restart=False)
            return None
        (answer,), self._asked = ready, None
        try:
            silent: dict[str, float] = ray.get(answer)
        except ray.exceptions.RayError:  # it is restarting and has lost its state
            return None
        return silent


class StopWatcher:
    """Called between batches; polls the cluster at most every ``POLL_SECONDS``."""

    def __init__(self, launch: str, actor: str) -> None:
        """
        Args:
            actor: Name of the actor within the launch: the id of its first trial.
        """
        self._name = _flag_name(launch)
        self._actor = actor
        self._flag: Any = None
        self._node = ray.get_runtime_context().get_node_id()
        self._next_question = self._next_look = self._next_sign = 0.0
        self.stopping = False
        self.draining = False

    def __call__(self) -> bool:
        """Return whether the trial should save and exit now."""
        if time.monotonic() >= self._next_question:
            self._next_question = time.monotonic() + POLL_SECONDS
            self._next_sign = time.monotonic() + _SIGN_SECONDS
            self.stopping = self._flag_is_set()
        if time.monotonic() >= self._next_look:  # also while the flag does not answer
            self._next_look = time.monotonic() + POLL_SECONDS
            with suppress(ray.exceptions.RayError):  # a GCS that does not answer must not make a trial fail either
                # There is no public API for this; Ray Serve uses the same call.
                self.draining = self._node in cluster_state.get_draining_nodes()
        return self.stopping or self.draining

    def progressed(self) -> None:
        """Signal progress where the trial does not poll, as in a long evaluation, without waiting for an answer."""
        if time.monotonic() >= self._next_sign:
            self._next_sign = time.monotonic() + _SIGN_SECONDS
            with suppress(ray.exceptions.RayError, ValueError):
                self._found().is_set.remote(self._actor)

    def _flag_is_set(self) -> bool:
        """Poll the flag. If it is unreachable, retry later, because it must never make a trial fail."""
        try:
            return bool(ray.get(self._found().is_set.remote(self._actor), timeout=_ANSWER_SECONDS))
        except ray.exceptions.GetTimeoutError:
            self._next_question = time.monotonic() + _LATER_SECONDS
            return self.stopping
        except (ray.exceptions.RayError, ValueError):
            self._flag = None
            return self.stopping

    def _found(self) -> Any:
        """Return the flag's handle. Raises ValueError if there is no flag with the name."""
        self._flag = self._flag or ray.get_actor(self._name)
        return self._flag
