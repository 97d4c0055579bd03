"""What a launch may cost, and how long it may last. Pure bookkeeping.

Machines are paid for as long as the cluster has them, busy or not.
"""

import time
from collections.abc import Callable

from jobs.errors import Code, InvalidRequest


def require_amount(most: float) -> None:
    """Raises InvalidRequest when this is no amount that a launch may cost, in US dollars."""
    if not 0 < most < float("inf"):
        raise InvalidRequest(Code.WRONG_VALUE, f"--max-cost is US dollars above 0; it is {most}", key="--max-cost")


class TimeLimit:
    """Says when to stop, so that a launch has ended before its hours have."""

    def __init__(self, hours: float, ending_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            hours: that the launch may last, from now on.
            ending_seconds: how long trials may take to save and leave; it is part of the hours.

        Raises:
            InvalidRequest: when the hours are not longer than that.
        """
        require_hours(hours, ending_seconds)
        self._hours = hours
        self._clock = clock
        self._until = clock() + hours * 3600 - ending_seconds

    def spend(self) -> str | None:
        """The reason to stop, when going on would pass the hours."""
        if self._clock() < self._until:
            return None
        return f"the time is up: --max-hours {self._hours:g}; a later launch counts anew"


def require_hours(hours: float, ending_seconds: float) -> None:
    """Raises InvalidRequest when a launch of so many hours has no time beside that for saving and leaving."""
    if not ending_seconds < hours * 3600 < float("inf"):
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"--max-hours is hours, more than the {ending_seconds:.0f} s in which trials save and leave; it is {hours}",
            key="--max-hours",
        )


class Budget:
    """Adds up what a cluster costs while a launch runs, and says when to stop."""

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
            most: US dollars that the launch may cost.
            price: US dollars for an hour of one GPU (of one machine, in a cluster without GPUs).
            billed: how many the cluster has now.
            ending_seconds: how long trials may take to save and leave; this is paid for, too.

        Raises:
            InvalidRequest: when ``most`` is not above 0.
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
        """Count the time since the last call; the reason to stop, when going on would pass the most."""
        now = self._clock()
        dollars_a_second = self._billed() * self._price / 3600
        self.spent += (now - self._last) * dollars_a_second
        self._last = now
        if self.spent + self._ending_seconds * dollars_a_second < self.most:
            return None
        return (
            f"the money is spent: about ${self.spent:,.2f} of ${self.most:,.2f}, at ${self._price:,.3g} an hour of "
            "each GPU that the cluster had; a later launch counts anew"
        )
