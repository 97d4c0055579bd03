"""Which actors hang: those that showed no progress for too long. Pure bookkeeping, no Ray."""

import time
from collections.abc import Callable, Iterable, Mapping

from jobs.errors import Code, InvalidRequest

HANG_AFTER_MINUTES = 30.0
"""Longer than anything that shows no progress on its way: loading torch and images, compiling a network, one batch."""
_SUSPENDED_SECONDS = 60.0
"""Between two looks of a driver that is not suspended (Ctrl-Z, a closed laptop)."""


class ActorHung(OSError):
    """An actor showed no progress and was ended: its machine's fault and not that of its trials."""


class Silences:
    """How long each actor has shown no progress."""

    def __init__(self, most_minutes: float, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            most_minutes: an actor that is silent for longer hangs.

        Raises:
            InvalidRequest: when this is not above 0.
        """
        if not 0 < most_minutes < float("inf"):
            raise InvalidRequest(
                Code.WRONG_VALUE,
                f"--hang-after is minutes above 0, longer than loading or compiling ever takes; it is {most_minutes}",
                key="--hang-after",
            )
        self._most_seconds = most_minutes * 60
        self._clock = clock
        self._heard_at: dict[str, float] = {}
        self._looked_at = clock()

    @property
    def actors(self) -> list[str]:
        return list(self._heard_at)

    def started(self, actor: str) -> None:
        """It has its trials; that counts as a sign."""
        self._heard_at[actor] = self._clock()

    def ended(self, actors: Iterable[str]) -> None:
        for actor in actors:
            self._heard_at.pop(actor, None)

    def hanging(self, silent_seconds: Mapping[str, float]) -> list[str]:
        """The actors that hang, now that this was heard.

        Args:
            silent_seconds: since the last sign of each actor; one that was never heard, or was heard by what has
                forgotten it, is missing.
        """
        now = self._clock()
        if (lost := now - self._looked_at) > _SUSPENDED_SECONDS:
            # the driver stood still, and so perhaps did all else: that time is nobody's silence
            self._heard_at = {actor: at + lost for actor, at in self._heard_at.items()}
        self._looked_at = now
        for actor in self._heard_at.keys() & silent_seconds.keys():
            self._heard_at[actor] = max(self._heard_at[actor], now - silent_seconds[actor])
        return [actor for actor, at in self._heard_at.items() if now - at > self._most_seconds]
