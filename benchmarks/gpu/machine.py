"""The device that is measured, and how many images."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import torch

from benchmarks.rows import Row, at_least
from jobs.execution.gpu_memory import refusals

_GRACE_SECONDS = 60.0
"""How long after the last start of a measurement its processes may run."""


class OutOfTime(Exception):
    """Nothing more may be measured."""


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
    """When to start no further measurement, in seconds of the monotonic clock."""

    @property
    def late(self) -> bool:
        """Whether nothing may start any more, and what runs must end."""
        return time.monotonic() > self.ends

    def require_time(self) -> None:
        """Raise ``OutOfTime`` if nothing may start any more."""
        if self.late:
            raise OutOfTime("out of time")

    @property
    def left(self) -> float:
        """Seconds for which processes that start now may run."""
        return max(0.0, self.ends + _GRACE_SECONDS - time.monotonic())

    def seconds(self, work: Callable[[], object]) -> float:
        """Return the wall time of some work.

        Raises:
            OutOfTime: if it is too late to begin.
        """
        self.require_time()
        self.wait()
        started = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - started

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def clear(self) -> None:
        """Return the unused memory of this process to the card, that of trials which refer to themselves included."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


class Missing(NamedTuple):
    """Rows that could not be measured."""

    what: str
    why: str


Found: TypeAlias = Row | Missing
Part = Callable[[Machine], Iterator[Found]]


def guarded(machine: Machine, what: str, rows: Iterator[Found]) -> Iterator[Found]:
    """Yield rows as they are measured. If an error or the end of the time prevents some, say why.

    What failed costs later rows nothing: its memory is free again, and what the GPU refused it is forgotten. Only the
    algorithms that were chosen for lack of memory remain chosen.
    """
    why = ""
    try:
        machine.clear()
        machine.require_time()
        yield from rows
    except OutOfTime as error:
        why = str(error)
    except Exception as error:  # noqa: BLE001  # the other rows are worth their minutes
        why = _in_words(refusals.caught(error, machine.device))
    refusals.forget(machine.device)
    if why:
        yield Missing(what, why)


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def for_each(
    machine: Machine,
    part: str,
    rows: Callable[[Machine, str, Mapping[str, Any]], Iterator[Row]],
    ways: Mapping[str, Mapping[str, Any]],
) -> Iterator[Found]:
    """Yield the rows of a part for each of several ways to compute, such as formats. If one fails, the others run.

    Args:
        part: the name of the part.
        ways: choices of the recipe by name.
    """
    for name, choices in ways.items():
        yield from guarded(machine, f"{part}, {name}", rows(machine, name, choices))


def holds(name: str, true: bool) -> Row:
    """Return a row that holds if a statement is true: 1, else 0."""
    return at_least(name, [float(true)], 1)
