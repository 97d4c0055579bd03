"""However Ray reports that an actor is lost, Tune fails the trials of that actor only.

Tune does so for ``RayActorError``. On others, such as the ``OutOfMemoryError`` of Ray's memory monitor, it raises
RuntimeError, which ends the whole round, or forgets their type if the actor was starting (Ray 2.60).
"""

from typing import Any

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

_MANAGER: Any = RayActorManager
_task_failed_in_tune = _MANAGER._actor_task_failed
_start_failed_in_tune = _MANAGER._actor_start_failed


class ActorLost(RayActorError):
    """A call of an actor ended with an error of Ray other than ``RayActorError``; the actor is given up."""


class ActorOutOfMemory(ActorLost):
    """Ray's memory monitor killed the actor."""


def lost(error: Exception) -> Exception:
    """Return an error of a call as one that Tune takes for the failure of the actor, with the same text."""
    if not isinstance(error, RayError) or isinstance(error, RayActorError | RayTaskError):
        return error
    kind = ActorOutOfMemory if isinstance(error, OutOfMemoryError) else ActorLost
    return kind(error_msg=str(error))


def _task_failed(manager: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
    _task_failed_in_tune(manager, tracked_actor_task, lost(exception))


def _start_failed(manager: RayActorManager, tracked_actor: Any, exception: Exception) -> None:
    _start_failed_in_tune(manager, tracked_actor, lost(exception))


def let_tune_survive() -> None:
    """Make Tune's manager of actors treat such errors as the failure of one actor. Calling it again changes nothing."""
    _MANAGER._actor_task_failed = _task_failed
    _MANAGER._actor_start_failed = _start_failed
