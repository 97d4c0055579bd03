"""Base of trials that train a network: an optimizer, a learning rate, and rows at the ends of epochs."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from jobs.data.batches import to_input
from jobs.data.datasets import Dataset
from jobs.execution.determinism import memory_format
from jobs.execution.loss_scale import LossScale
from jobs.execution.metrics import evaluating
from jobs.execution.optimizers import load_state, make_optimizer, set_learning_rate, state_tensors
from jobs.execution.seeding import Purpose, generator
from jobs.execution.trial import Trial, TrialRow, require_shapes
from jobs.kinds.training.spec import TrainingSpec
from jobs.networks.folding import Fold
from jobs.networks.network import Network


class Evaluated(TrialRow, Protocol):
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

    data: Dataset

    def __init__(self, spec: SpecT, network: Network, device: torch.device) -> None:
        """Set the trial to its start.

        Args:
            network: in its state before the first batch, frozen as in the spec.
        """
        self._drawn: tuple[tuple[int, int], Counter[str]] = ((0, 0), Counter())
        super().__init__(spec, network.to(device).to(memory_format=memory_format(spec.recipe)), device)
        self.network.draw_from(self._uniform)
        self._folds: tuple[Fold, ...] | None = None
        self.optimizer = make_optimizer(self.network, spec.recipe)
        self.loss_scale = LossScale(spec.recipe.precision, device)

    @abstractmethod
    def _train_batch(self, indices: Tensor) -> None:
        """Take one step on these images; add them to the running sums."""

    @abstractmethod
    def _evaluate_epoch(self) -> EvaluationT | None:
        """Evaluate at the end of an epoch, if it is evaluated; ``seconds`` of the row are set later."""

    def folds(self) -> tuple[Fold, ...]:
        """Return the convolutions that are folded when test images are evaluated; none if the recipe folds none."""
        if self.spec.recipe.evaluation == "plain":
            return ()
        if self._folds is None:
            one_NCHW = to_input(self.data.test.images_NCHW[:1], self.device, memory_format(self.spec.recipe))
            with evaluating(self.network):
                self._folds = self.network.folds(one_NCHW)
        return self._folds

    @property
    def epochs(self) -> int:
        return self.spec.epochs

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last layer during this epoch."""
        return self.spec.recipe.learning_rate_at(self.epoch, self.spec.epochs)

    @property
    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that the trial changes, by name."""
        return {name: p for name, p in self.network.model.named_parameters() if p.requires_grad}

    def _uniform(self, path: str, shape: Sequence[int]) -> Tensor:
        """Return the numbers of a layer that draws, for this batch.

        They follow from the seed, the layer's path, and the number of its draws in this batch.
        """
        if self._drawn[0] != self.position:
            self._drawn = (self.position, Counter())
        before = self._drawn[1][path]
        self._drawn[1][path] += 1
        again = [before + 1] if before else []  # the first draw has the name that it had when it was the only one
        rng = generator(self.spec.seed, Purpose.LAYER, self.epoch, self.batch, path, *again)
        return torch.rand(tuple(shape), generator=rng)

    def _run_batch(self) -> Sequence[EvaluationT]:
        self.set_learning_rate()
        self._train_batch(self.batches[self.batch])
        row = self._evaluate_epoch() if self.ends_epoch else None
        return [] if row is None else [row]

    def tensors(self) -> dict[str, Tensor]:
        """Return what training changes.

        ``parameter/NAME`` for every trained parameter, ``buffer/NAME`` for every buffer of the network (including the
        trunk's BatchNorm), with float16 the scale of the loss, and after the first step the optimizer's state, such as
        ``momentum/NAME``.
        """
        return self._trained() | self.loss_scale.tensors() | state_tensors(self.optimizer, self.trained_parameters)

    def trained_tensors(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.network.model.state_dict()
        return state

    def _trained(self) -> dict[str, Tensor]:
        parameters: dict[str, Tensor] = {f"parameter/{name}": p for name, p in self.trained_parameters.items()}
        return parameters | {f"buffer/{name}": buffer for name, buffer in self.network.model.named_buffers()}

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        wanted = self._trained() | self.loss_scale.tensors()
        require_shapes(wanted, tensors)
        with torch.no_grad():
            for name, tensor in wanted.items():
                tensor.copy_(tensors[name])
        states = {name: tensor for name, tensor in tensors.items() if name not in wanted}
        self.loss_scale.load(tensors)
        load_state(self.optimizer, self.trained_parameters, states)

    def set_learning_rate(self) -> None:
        """Set the optimizer's learning rates to those of this epoch."""
        set_learning_rate(self.optimizer, self.learning_rate)
