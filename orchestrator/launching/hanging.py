"""Detection of hung actors, which made no progress for too long. Pure bookkeeping, no Ray."""

import time
from collections.abc import Callable, Iterable, Mapping

from orchestrator.failures.retry_policy import RetryPolicy


class ActorHung(OSError):
    """An actor made no progress and was killed: an infrastructure failure, not an error of its trials."""


class Silences:
    """Tracks how long each actor has made no progress."""

    def __init__(self, policy: RetryPolicy, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self._heard_at: dict[str, float] = {}
        self._looked_at = clock()

    @property
    def actors(self) -> list[str]:
        return list(self._heard_at)

    def started(self, actor: str) -> None:
        """Record that an actor received its trials, which counts as progress."""
        self._heard_at[actor] = self._clock()

    def ended(self, actors: Iterable[str]) -> None:
        for actor in actors:
            self._heard_at.pop(actor, None)

    def hanging(self, silent_seconds: Mapping[str, float]) -> list[str]:
        """Return the actors that hang, after an update.

        Args:
            silent_seconds: Seconds since the last sign of progress of each actor. Actors are missing if the stop flag
                has received no sign from them, or has lost it in a restart.
        """
        now = self._clock()
        if (lost := now - self._looked_at) > self._policy.suspended_after_seconds:
            # the driver was suspended, and perhaps the actors, too: do not count that time as silence
            self._heard_at = {actor: at + lost for actor, at in self._heard_at.items()}
        self._looked_at = now
        for actor in self._heard_at.keys() & silent_seconds.keys():
            self._heard_at[actor] = max(self._heard_at[actor], now - silent_seconds[actor])
        most_seconds = self._policy.hang_after_minutes * 60
        return [actor for actor, at in self._heard_at.items() if now - at > most_seconds]
