"""What trials of all kinds share: a position, a pause between any two batches, and going on from there."""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar

import torch
from torch import Tensor

from jobs.device_kind import device_kind
from jobs.evaluation import Tally
from jobs.networks import Network
from jobs.numerics import numerics
from jobs.progress import progressed
from jobs.provenance import History, packages
from jobs.specs import TrialSpec


class Row(Protocol):
    """The numbers of a part of a trial: a named tuple, one row of its result."""

    def _asdict(self) -> dict[str, Any]: ...
    def _replace(self, *, seconds: float) -> Self: ...


SpecT = TypeVar("SpecT", bound=TrialSpec)
RowT = TypeVar("RowT", bound=Row)


class Pin(NamedTuple):
    """The digest that a name must stand for in a results root (``what``: sources or datasets)."""

    what: str
    name: str
    sha256: str


class Trial(ABC, Generic[SpecT, RowT]):
    """A trial in progress.

    It passes over its images once or several times, and can be paused between any two batches; what it computes
    depends on its spec alone, not on where it was paused: the same on one kind of device, with the same torch and
    torchvision (design, promise 1).
    """

    evaluation: ClassVar[Callable[..., Row]]
    """The kind's row type, to read rows back from a checkpoint."""

    def __init__(self, spec: SpecT, network: Network, device: torch.device) -> None:
        """Set the trial to its start."""
        self.spec = spec
        self.network = network
        self.device = device
        self.epoch = 1
        self.batch = 0
        self.batches = self._batches_of(self.epoch)
        self.tally = Tally()
        self.evaluations: list[RowT] = []
        self.seconds = 0.0
        self.passed_over = set[str]()
        """Checkpoints that it did not go on from: they make room for its own."""
        self._before = History()

    @property
    def device_kind(self) -> str:
        """Of what it is computed by now."""
        return device_kind(self.device, self.spec.recipe)

    @property
    def own_history(self) -> History:
        """What it has been computed by; what computes it now is last."""
        return self._before.then(History((self.device_kind,), (json.dumps(packages()),)))

    @property
    def history(self) -> History:
        """What its numbers follow from: that of trained networks that it reads comes first."""
        return self.own_history

    @property
    @abstractmethod
    def pins(self) -> tuple[Pin, ...]:
        """What the trial reads; a results root holds each name to one digest."""

    @property
    @abstractmethod
    def facts(self) -> Mapping[str, object]:
        """Columns that all its rows share, besides those of the spec: what was read and how much of it."""

    @property
    @abstractmethod
    def epochs(self) -> int:
        """How often it passes over its images."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What the trial changes, by name: with position and tally all that a checkpoint needs."""

    @abstractmethod
    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what ``tensors`` gave at another position.

        Raises:
            ValueError: when a tensor is missing or has another shape; the trial is untouched.
        """

    @abstractmethod
    def _batches_of(self, epoch: int) -> list[Tensor]:
        """The indices of each batch of a pass (from 1)."""

    @abstractmethod
    def _run_batch(self) -> Sequence[RowT]:
        """Do the next batch; the rows that it completes, their seconds to be filled in later."""

    @property
    def done(self) -> bool:
        return self.epoch > self.epochs

    @property
    def position(self) -> tuple[int, int]:
        """The epoch (from 1) and the batch (from 0) that come next."""
        return self.epoch, self.batch

    def advance(self, pause: Callable[[], bool] = lambda: False) -> None:
        """Go on until the trial is done, or until ``pause()``, asked between batches, says so."""
        with numerics(self.spec.recipe):
            while not self.done and not pause():
                started = time.monotonic()
                rows = self._run_batch()
                self.finish_batch(time.monotonic() - started, rows)

    def restore(
        self,
        tensors: Mapping[str, Tensor],
        *,
        epoch: int,
        batch: int,
        tally: Tally,
        evaluations: list[RowT],
        seconds: float,
        history: History,
    ) -> Self:
        """Go to where a trial of the same spec was.

        Args:
            tensors: as ``tensors`` gives them.
            history: what that trial had been computed by.

        Raises:
            ValueError: when a tensor is missing or has another shape; the trial is untouched.
        """
        self._load(tensors)
        self.go_to(epoch, batch)
        self.tally, self.evaluations, self.seconds, self._before = tally, evaluations, seconds, history
        return self

    def go_to(self, epoch: int, batch: int) -> None:
        """Make this batch (from 0) of this epoch (from 1) the next."""
        self.epoch, self.batch, self.batches = epoch, batch, self._batches_of(epoch)

    @property
    def ends_epoch(self) -> bool:
        """Whether the next batch is the last of its epoch."""
        return self.batch + 1 == len(self.batches)

    def finish_batch(self, seconds: float, rows: Sequence[RowT]) -> None:
        """Make the batch after the one just done the next.

        Args:
            seconds: spent on the batch, and on what was measured after it.
            rows: what it completed.
        """
        progressed()
        ended = self.ends_epoch
        self.seconds += seconds
        self.batch += 1
        self.evaluations += [row._replace(seconds=self.seconds) for row in rows]
        if ended:
            self.tally = Tally()
            self.go_to(self.epoch + 1, 0)


def require_shapes(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not all there, in shape.

    Raises:
        ValueError: naming those that are missing or have another shape.
    """
    if names := [name for name, t in wanted.items() if name not in found or found[name].shape != t.shape]:
        raise ValueError(f"missing or of another shape: {', '.join(names)}")
