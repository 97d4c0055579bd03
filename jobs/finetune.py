"""A fine-tuning trial: from its spec to its rows, one batch at a time.

A trial in progress is a ``Finetuning``.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from jobs import registry
from jobs.augmentation import augment, draw
from jobs.batches import batch_indices, in_order, to_input
from jobs.checks import require_possible
from jobs.data.datasets import Dataset, load_dataset
from jobs.data.subsets import draw_subset, subset_digest
from jobs.evaluation import evaluate
from jobs.numerics import memory_format
from jobs.randomness import Purpose, generator
from jobs.specs import FinetuneSpec
from jobs.training import Pin, Training
from jobs.transfer import calibrate, set_training_modes, transfer
from jobs.weights import SourceWeights


class Evaluation(NamedTuple):
    """The numbers after one evaluated epoch. Accuracies in percent, losses in nats, time in seconds."""

    epoch: int
    learning_rate: float
    train_accuracy: float
    train_loss: float
    test_accuracy: float
    test_loss: float
    seconds: float


class Finetuning(Training[FinetuneSpec, Evaluation]):
    """One trial in progress."""

    evaluation = Evaluation

    def __init__(self, spec: FinetuneSpec, weights: SourceWeights, data: Dataset, device: torch.device) -> None:
        """Set the trial to its start. Loading and freezing are deterministic; nothing global is touched."""
        self.weights = weights
        self.data = data
        self.subset = draw_subset(data.train.labels_N, spec.images, spec.seed)
        self.augmented = spec.recipe.transforms == "as-released" and registry.dataset(spec.dataset).colour
        super().__init__(spec, transfer(spec, weights), device)

    @property
    def pins(self) -> tuple[Pin, ...]:
        return (
            Pin("sources", self.spec.source, self.weights.sha256),
            Pin("datasets", self.spec.dataset, self.data.sha256),
        )

    @property
    def subset_sha256(self) -> str:
        return subset_digest(self.subset)

    def _batches_of(self, epoch: int) -> list[Tensor]:
        return batch_indices(len(self.subset), self.spec.recipe.batch_size, self.spec.seed, epoch)

    def _train_batch(self, indices: Tensor) -> None:
        if self.spec.recipe.frozen_batchnorm == "calibrated" and self.position == (1, 0):
            self._calibrate()
        images = self.subset[indices]
        x_NCHW = self._training_input(images)
        labels_N = self.data.train.labels_N[images].to(self.device)
        set_training_modes(self.network, self.spec)
        self.optimizer.zero_grad()
        logits_NK = self.network(x_NCHW)
        loss = nn.functional.cross_entropy(logits_NK, labels_N)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.tally.add(logits_NK.detach(), labels_N, loss.detach())

    def _training_input(self, images: Tensor) -> Tensor:
        images_NCHW = self.data.train.images_NCHW[images].to(self.device)
        if self.augmented:
            rng = generator(self.spec.seed, Purpose.AUGMENTATION, self.epoch, self.batch)
            images_NCHW = augment(images_NCHW, draw(len(images), rng))
        return to_input(images_NCHW, self.device, memory_format(self.spec.recipe))

    def _calibrate(self) -> None:
        """Estimate the frozen statistics on the subset, not augmented, in its own order. Checkpoints hold them."""
        parts = torch.split(self.subset, self.spec.recipe.batch_size)
        images, form = self.data.train.images_NCHW, memory_format(self.spec.recipe)
        calibrate(self.network, self.spec.blocks, (to_input(images[part], self.device, form) for part in parts))

    def _evaluate_epoch(self) -> Evaluation | None:
        if self.epoch not in self.spec.evaluated_epochs:
            return None
        recipe = self.spec.recipe
        batches = in_order(self.data.test, recipe.evaluation_batch_size, self.device, memory_format(recipe))
        test = evaluate(self.network, batches)
        return Evaluation(
            epoch=self.epoch,
            learning_rate=self.learning_rate,
            train_accuracy=self.tally.accuracy_percent,
            train_loss=self.tally.mean_loss,
            test_accuracy=test.accuracy_percent,
            test_loss=test.mean_loss,
            seconds=0.0,
        )


def open_finetuning(spec: FinetuneSpec, weights: SourceWeights, device: torch.device) -> Finetuning:
    """Load what a trial needs besides its source's weights, and set it to its start.

    Raises:
        InvalidRequest: when the trial cannot exist.
        MissingData, DamagedFile: when its images are not on this machine, or not what they should be.
    """
    require_possible(spec)
    image_size = registry.architecture(registry.source(spec.source).architecture).image_size
    return Finetuning(spec, weights, load_dataset(spec.dataset, image_size), device)
