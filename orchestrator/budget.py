"""What a launch may cost: machines are paid for as long as the cluster has them, busy or not. Pure bookkeeping."""

import time
from collections.abc import Callable

from jobs.errors import Code, InvalidRequest


def require_amount(most: float) -> None:
    """Raises InvalidRequest when this is no amount that a launch may cost, in US dollars."""
    if not 0 < most < float("inf"):
        raise InvalidRequest(Code.WRONG_VALUE, f"--max-cost is US dollars above 0; it is {most}", key="--max-cost")


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
