"""A fine-tuning trial: from its spec to its rows, one batch at a time.

A trial in progress is a ``Finetuning``. It can be paused between any two batches; what it computes
depends on its spec alone, not on where it was paused (design, promise 1).
"""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jobs import registry
from jobs.batches import batch_indices, in_order, to_input
from jobs.checks import problems
from jobs.data.datasets import Dataset, load_dataset
from jobs.data.subsets import draw_subset, subset_digest
from jobs.errors import InvalidRequest
from jobs.evaluation import Tally, evaluate
from jobs.numerics import memory_format, numerics
from jobs.optimizers import sgd
from jobs.specs import FinetuneSpec
from jobs.transfer import set_training_modes, transfer
from jobs.weights import SourceWeights, load_source


class Evaluation(NamedTuple):
    """The numbers after one evaluated epoch. Accuracies in percent, losses in nats, time in seconds."""

    epoch: int
    learning_rate: float
    train_accuracy: float
    train_loss: float
    test_accuracy: float
    test_loss: float
    seconds: float


class Finetuning:
    """One trial in progress."""

    def __init__(self, spec: FinetuneSpec, weights: SourceWeights, data: Dataset, device: torch.device) -> None:
        """Set the trial to its start. Loading and freezing are deterministic; nothing global is touched."""
        self.spec = spec
        self.weights = weights
        self.data = data
        self.device = device
        self.subset = draw_subset(data.train.labels_N, spec.images, spec.seed)
        self.network = transfer(spec, weights).to(device).to(memory_format=memory_format(spec.recipe))
        self.optimizer = sgd(self.network, spec.recipe)
        self.epoch = 1
        self.batch = 0
        self.batches = self._batches_of(self.epoch)
        self.tally = Tally()
        self.evaluations: list[Evaluation] = []
        self.seconds = 0.0

    @property
    def done(self) -> bool:
        return self.epoch > self.spec.epochs

    @property
    def position(self) -> tuple[int, int]:
        """The epoch (from 1) and the batch (from 0) that come next."""
        return self.epoch, self.batch

    @property
    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that the trial changes, by name."""
        return {name: p for name, p in self.network.resnet.named_parameters() if p.requires_grad}

    @property
    def subset_sha256(self) -> str:
        return subset_digest(self.subset)

    def advance(self, pause: Callable[[], bool] = lambda: False) -> None:
        """Go on until the trial is done, or until ``pause()``, asked between batches, says so."""
        with numerics(self.spec.recipe):
            while not self.done and not pause():
                started = time.monotonic()
                self._train_batch()
                if self.batch == len(self.batches):
                    self._end_epoch(started)
                else:
                    self.seconds += time.monotonic() - started

    def restore(
        self,
        tensors: Mapping[str, Tensor],
        *,
        epoch: int,
        batch: int,
        tally: Tally,
        evaluations: list[Evaluation],
        seconds: float,
    ) -> None:
        """Go to where a trial of the same spec was.

        Args:
            tensors: ``parameter/NAME`` of every trained parameter, ``buffer/NAME`` of every buffer of the
                network, and ``momentum/NAME`` of the optimiser's state, if it took a step.

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
        self.epoch, self.batch, self.batches = epoch, batch, self._batches_of(epoch)
        self.tally, self.evaluations, self.seconds = tally, evaluations, seconds

    def _batches_of(self, epoch: int) -> list[Tensor]:
        return batch_indices(len(self.subset), self.spec.recipe.batch_size, self.spec.seed, epoch)

    def _train_batch(self) -> None:
        spec, form = self.spec, memory_format(self.spec.recipe)
        indices = self.subset[self.batches[self.batch]]
        x_NCHW = to_input(self.data.train.images_NCHW[indices], self.device, form)
        labels_N = self.data.train.labels_N[indices].to(self.device)
        self.optimizer.param_groups[0]["lr"] = spec.recipe.learning_rate_at(self.epoch, spec.epochs)
        set_training_modes(self.network, spec)
        self.optimizer.zero_grad()
        logits_NK = self.network(x_NCHW)
        loss = nn.functional.cross_entropy(logits_NK, labels_N)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.tally.add(logits_NK.detach(), labels_N, loss.detach())
        self.batch += 1

    def _end_epoch(self, started: float) -> None:
        evaluated = self.epoch in self.spec.evaluated_epochs
        test = self._evaluate() if evaluated else None
        self.seconds += time.monotonic() - started
        if test is not None:
            self.evaluations.append(
                Evaluation(
                    epoch=self.epoch,
                    learning_rate=self.spec.recipe.learning_rate_at(self.epoch, self.spec.epochs),
                    train_accuracy=self.tally.accuracy_percent,
                    train_loss=self.tally.mean_loss,
                    test_accuracy=test.accuracy_percent,
                    test_loss=test.mean_loss,
                    seconds=self.seconds,
                )
            )
        self.tally = Tally()
        self.epoch += 1
        self.batch = 0
        self.batches = self._batches_of(self.epoch)

    def _evaluate(self) -> Tally:
        recipe = self.spec.recipe
        batches = in_order(self.data.test, recipe.evaluation_batch_size, self.device, memory_format(recipe))
        return evaluate(self.network, batches)


def open_finetuning(spec: FinetuneSpec, device: torch.device) -> Finetuning:
    """Load what a trial needs and set it to its start.

    Raises:
        InvalidRequest: when the trial cannot exist.
        MissingData, DamagedFile: when its weights or images are not on this machine, or not what they should be.
    """
    if found := problems(spec):
        raise InvalidRequest(f"trial {spec.trial_id} cannot be run:\n" + "\n".join(f"- {line}" for line in found))
    image_size = registry.architecture(registry.source(spec.source).architecture).image_size
    return Finetuning(spec, load_source(spec.source), load_dataset(spec.dataset, image_size), device)
