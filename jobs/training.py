"""What the kinds that train a network share: an optimiser, a learning rate, and rows at the ends of epochs."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from jobs.networks import Network
from jobs.numerics import memory_format
from jobs.optimizers import sgd
from jobs.specs import TrainingSpec
from jobs.trial import Row, Trial, require_shapes


class Evaluated(Row, Protocol):
    """The numbers after an epoch."""

    @property
    def epoch(self) -> int: ...
    @property
    def train_accuracy(self) -> float: ...
    @property
    def train_loss(self) -> float: ...
    @property
    def test_accuracy(self) -> float: ...


SpecT = TypeVar("SpecT", bound=TrainingSpec)
EvaluationT = TypeVar("EvaluationT", bound=Evaluated)


class Training(Trial[SpecT, EvaluationT]):
    """A trial in progress that trains a network."""

    def __init__(self, spec: SpecT, network: Network, device: torch.device) -> None:
        """Set the trial to its start.

        Args:
            network: as it is before the first batch, frozen as the spec says.
        """
        super().__init__(spec, network.to(device).to(memory_format=memory_format(spec.recipe)), device)
        self.optimizer = sgd(self.network, spec.recipe)

    @abstractmethod
    def _train_batch(self, indices: Tensor) -> None:
        """One step on these images; counts them in the tally."""

    @abstractmethod
    def _evaluate_epoch(self) -> EvaluationT | None:
        """Measure at the end of an epoch, if it is one to measure after; the seconds are filled in later."""

    @property
    def epochs(self) -> int:
        return self.spec.epochs

    @property
    def learning_rate(self) -> float:
        """During this epoch."""
        return self.spec.recipe.learning_rate_at(self.epoch, self.spec.epochs)

    @property
    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that the trial changes, by name."""
        return {name: p for name, p in self.network.resnet.named_parameters() if p.requires_grad}

    def _run_batch(self) -> Sequence[EvaluationT]:
        self.set_learning_rate()
        self._train_batch(self.batches[self.batch])
        row = self._evaluate_epoch() if self.ends_epoch else None
        return [] if row is None else [row]

    def tensors(self) -> dict[str, Tensor]:
        """What training changes: ``parameter/NAME`` of every trained parameter, ``buffer/NAME`` of every buffer of the
        network (the trunk's BatchNorm too), and ``momentum/NAME`` of the optimiser's state, if it took a step.
        """
        return self._trained() | {
            f"momentum/{name}": self.optimizer.state[p]["momentum_buffer"]
            for name, p in self.trained_parameters.items()
            if "momentum_buffer" in self.optimizer.state[p]
        }

    def _trained(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {f"parameter/{name}": p for name, p in self.trained_parameters.items()}
        return found | {f"buffer/{name}": buffer for name, buffer in self.network.resnet.named_buffers()}

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        wanted = self._trained()
        require_shapes(wanted, tensors)
        with torch.no_grad():
            for name, tensor in wanted.items():
                tensor.copy_(tensors[name])
            for name, parameter in self.trained_parameters.items():
                if f"momentum/{name}" in tensors:
                    momentum = torch.empty_like(parameter).copy_(tensors[f"momentum/{name}"])
                    self.optimizer.state[parameter]["momentum_buffer"] = momentum

    def set_learning_rate(self) -> None:
        """Give the optimiser the learning rate of this epoch."""
        self.optimizer.param_groups[0]["lr"] = self.learning_rate
