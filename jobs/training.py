"""What all kinds of training share: a position, a pause between any two batches, and going on from there."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from jobs.evaluation import Tally
from jobs.networks import Network
from jobs.numerics import memory_format, numerics
from jobs.optimizers import sgd
from jobs.specs import TrainingSpec


class Evaluated(Protocol):
    """The numbers after an epoch: a named tuple, one row of the trial's result."""

    @property
    def epoch(self) -> int: ...
    @property
    def train_accuracy(self) -> float: ...
    @property
    def train_loss(self) -> float: ...
    @property
    def test_accuracy(self) -> float: ...
    def _asdict(self) -> dict[str, Any]: ...
    def _replace(self, *, seconds: float) -> Self: ...


SpecT = TypeVar("SpecT", bound=TrainingSpec)
EvaluationT = TypeVar("EvaluationT", bound=Evaluated)


class Pin(NamedTuple):
    """The digest that a name must stand for in a results root (``what``: sources or datasets)."""

    what: str
    name: str
    sha256: str


class Training(ABC, Generic[SpecT, EvaluationT]):
    """A trial in progress that trains a network.

    It can be paused between any two batches; what it computes depends on its spec alone, not on where it was
    paused (design, promise 1).
    """

    evaluation: ClassVar[Callable[..., Evaluated]]
    """The kind's row type, to read rows back from a checkpoint."""

    def __init__(self, spec: SpecT, network: Network, device: torch.device) -> None:
        """Set the trial to its start.

        Args:
            network: as it is before the first batch, frozen as the spec says.
        """
        self.spec = spec
        self.device = device
        self.network = network.to(device).to(memory_format=memory_format(spec.recipe))
        self.optimizer = sgd(self.network, spec.recipe)
        self.epoch = 1
        self.batch = 0
        self.batches = self._batches_of(self.epoch)
        self.tally = Tally()
        self.evaluations: list[EvaluationT] = []
        self.seconds = 0.0

    @property
    @abstractmethod
    def pins(self) -> tuple[Pin, ...]:
        """What the trial reads; a results root holds each name to one digest."""

    @abstractmethod
    def _batches_of(self, epoch: int) -> list[Tensor]:
        """The indices of each batch of an epoch (from 1)."""

    @abstractmethod
    def _train_batch(self, indices: Tensor) -> None:
        """One step on these images; counts them in the tally."""

    @abstractmethod
    def _evaluate_epoch(self) -> EvaluationT | None:
        """Measure at the end of an epoch, if it is one to measure after; the seconds are filled in later."""

    @property
    def done(self) -> bool:
        return self.epoch > self.spec.epochs

    @property
    def position(self) -> tuple[int, int]:
        """The epoch (from 1) and the batch (from 0) that come next."""
        return self.epoch, self.batch

    @property
    def learning_rate(self) -> float:
        """During this epoch."""
        return self.spec.recipe.learning_rate_at(self.epoch, self.spec.epochs)

    @property
    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that the trial changes, by name."""
        return {name: p for name, p in self.network.resnet.named_parameters() if p.requires_grad}

    def advance(self, pause: Callable[[], bool] = lambda: False) -> None:
        """Go on until the trial is done, or until ``pause()``, asked between batches, says so."""
        with numerics(self.spec.recipe):
            while not self.done and not pause():
                started = time.monotonic()
                self.set_learning_rate()
                self._train_batch(self.batches[self.batch])
                row = self._evaluate_epoch() if self.ends_epoch else None
                self.finish_batch(time.monotonic() - started, row)

    def tensors(self) -> dict[str, Tensor]:
        """What training changes: ``parameter/NAME`` of every trained parameter, ``buffer/NAME`` of every buffer of the
        network (the trunk's BatchNorm too), and ``momentum/NAME`` of the optimiser's state, if it took a step.
        """
        parameters = self.trained_parameters
        found: dict[str, Tensor] = {f"parameter/{name}": p for name, p in parameters.items()}
        found |= {f"buffer/{name}": buffer for name, buffer in self.network.resnet.named_buffers()}
        return found | {
            f"momentum/{name}": self.optimizer.state[p]["momentum_buffer"]
            for name, p in parameters.items()
            if "momentum_buffer" in self.optimizer.state[p]
        }

    def restore(
        self,
        tensors: Mapping[str, Tensor],
        *,
        epoch: int,
        batch: int,
        tally: Tally,
        evaluations: list[EvaluationT],
        seconds: float,
    ) -> Self:
        """Go to where a trial of the same spec was.

        Args:
            tensors: as ``tensors`` gives them.

        Raises:
            ValueError: when a tensor is missing or has another shape; the trial is untouched.
        """
        parameters = self.trained_parameters
        wanted: dict[str, Tensor] = {f"parameter/{name}": p for name, p in parameters.items()}
        wanted |= {f"buffer/{name}": buffer for name, buffer in self.network.resnet.named_buffers()}
        if unfit := [name for name, t in wanted.items() if name not in tensors or tensors[name].shape != t.shape]:
            raise ValueError(f"missing or of another shape: {', '.join(unfit)}")
        with torch.no_grad():
            for name, tensor in wanted.items():
                tensor.copy_(tensors[name])
            for name, parameter in parameters.items():
                if f"momentum/{name}" in tensors:
                    momentum = torch.empty_like(parameter).copy_(tensors[f"momentum/{name}"])
                    self.optimizer.state[parameter]["momentum_buffer"] = momentum
        self.go_to(epoch, batch)
        self.tally, self.evaluations, self.seconds = tally, evaluations, seconds
        return self

    def go_to(self, epoch: int, batch: int) -> None:
        """Make this batch (from 0) of this epoch (from 1) the next."""
        self.epoch, self.batch, self.batches = epoch, batch, self._batches_of(epoch)

    def set_learning_rate(self) -> None:
        """Give the optimiser the learning rate of this epoch."""
        self.optimizer.param_groups[0]["lr"] = self.learning_rate

    @property
    def ends_epoch(self) -> bool:
        """Whether the next batch is the last of its epoch."""
        return self.batch + 1 == len(self.batches)

    def finish_batch(self, seconds: float, row: EvaluationT | None) -> None:
        """Make the batch after the one just trained on the next.

        Args:
            seconds: spent on the batch, and on evaluating after it.
            row: what was measured after it, if it ended an epoch to measure after.
        """
        ended = self.ends_epoch
        self.seconds += seconds
        self.batch += 1
        if row is not None:
            self.evaluations.append(row._replace(seconds=self.seconds))
        if ended:
            self.tally = Tally()
            self.go_to(self.epoch + 1, 0)
