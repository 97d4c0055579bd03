"""Limits on the trials, cost and duration of a launch. Pure bookkeeping.

Machines cost money as long as the cluster has them, busy or idle.
"""

import time
from collections.abc import Callable

from jobs.errors import Code, InvalidRequest
from orchestrator.process.numbers_as_text import rounded


def require_trials(most: int) -> None:
    """Raise InvalidRequest if this is not a valid limit of the number of trials."""
    if not isinstance(most, int) or most < 1:
        raise InvalidRequest(
            Code.WRONG_VALUE, f"expected --max-trials, a number of trials from 1; got {most}", key="--max-trials"
        )


def require_amount(most: float) -> None:
    """Raise InvalidRequest if this is not a valid spending limit in US dollars."""
    if not 0 < most < float("inf"):
        raise InvalidRequest(
            Code.WRONG_VALUE, f"expected --max-cost in US dollars, above 0; got {most}", key="--max-cost"
        )


class TimeLimit:
    """Decides when to stop so that a launch ends within its time limit."""

    def __init__(self, hours: float, ending_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            hours: Time limit of the launch in hours, starting now.
            ending_seconds: Time for trials to save and exit, included in the limit.

        Raises:
            InvalidRequest: If the limit is not longer than ``ending_seconds``.
        """
        require_hours(hours, ending_seconds)
        self._hours = hours
        self._clock = clock
        self._until = clock() + hours * 3600 - ending_seconds

    def spend(self) -> str | None:
        """Return the reason to stop if continuing would exceed the limit, else None."""
        if self._clock() < self._until:
            return None
        return f"the time limit was reached: --max-hours {self._hours:g}; each launch counts from 0"


def require_hours(hours: float, ending_seconds: float) -> None:
    """Raise InvalidRequest if a launch of this many hours has no time left besides saving and exiting."""
    if not ending_seconds < hours * 3600 < float("inf"):
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"expected --max-hours in hours, more than the {ending_seconds:.0f} s that trials may take to save and "
            f"exit; got {hours}",
            key="--max-hours",
        )


class Budget:
    """Tracks the cost of a cluster during a launch and decides when to stop."""

    def __init__(
        self,
        most: float,
        price: float,
        billed: Callable[[], float],
        ending_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            most: Spending limit in US dollars.
            price: US dollars per GPU-hour, or per machine-hour in a cluster without GPUs.
            billed: Returns the current number of GPUs (or machines) in the cluster.
            ending_seconds: Time for trials to save and exit, which costs money, too.

        Raises:
            InvalidRequest: If ``most`` is not above 0.
        """
        require_amount(most)
        self.most = most
        self.spent = 0.0
        self._price = price
        self._billed = billed
        self._ending_seconds = ending_seconds
        self._clock = clock
        self._last = clock()

    def spend(self) -> str | None:
        """Add the cost since the last call; return the reason to stop if continuing would exceed the limit."""
        now = self._clock()
        dollars_a_second = self._billed() * self._price / 3600
        self.spent += (now - self._last) * dollars_a_second
        self._last = now
        if self.spent + self._ending_seconds * dollars_a_second < self.most:
            return None
        return (
            f"the spending limit was reached: about ${self.spent:,.2f} of ${self.most:,.2f}, at "
            f"${rounded(self._price)} per hour for each GPU of the cluster (each machine, if it has no GPUs); each "
            "launch counts from 0"
        )
