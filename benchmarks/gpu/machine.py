"""The device that is measured, and how many images."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from benchmarks.rows import Row, at_least

_GRACE_SECONDS = 60.0
"""How long after the last start of a part its processes may run."""


class Size(NamedTuple):
    """Numbers of images."""

    batch: int
    evaluated: int
    """Images per evaluated batch."""
    repetitions: int
    trained: int
    """Training images of each timed trial: one batch."""
    tested: int
    """Test images of each timed trial."""
    compared: tuple[int, int]
    """Training and test images of trials whose bits are compared: several batches, of which the last is smaller."""
    shared_epochs: int
    """Epochs of the trials that share a card."""


WHOLE = Size(batch=128, evaluated=256, repetitions=10, trained=128, tested=768, compared=(448, 320), shared_epochs=25)
REHEARSAL = Size(batch=2, evaluated=2, repetitions=1, trained=2, tested=4, compared=(3, 2), shared_epochs=1)


class Machine(NamedTuple):
    """The device, and what is known of it."""

    device: torch.device
    size: Size
    card: str | None
    """Its name in the table of ``plan``; None if it is not there."""
    ends: float
    """When to start no further part, in seconds of the monotonic clock."""

    @property
    def left(self) -> float:
        """Seconds for which processes that start now may run."""
        return max(0.0, self.ends + _GRACE_SECONDS - time.monotonic())

    def seconds(self, work: Callable[[], object]) -> float:
        """Return the wall time of some work."""
        self.wait()
        started = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - started

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def clear(self) -> None:
        """Return the unused memory of this process to the card."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


Part = Callable[[Machine], Iterator[Row]]


def holds(name: str, true: bool) -> Row:
    """Return a row that holds if a statement is true: 1, else 0."""
    return at_least(name, [float(true)], 1)
