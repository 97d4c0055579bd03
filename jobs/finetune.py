"""A fine-tuning trial: from its spec to its rows, one batch at a time.

A trial in progress is a ``Finetuning``.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jobs import registry
from jobs.activations import Kept, kept_activations
from jobs.augmentation import augment, crops_of_whole, draw
from jobs.batches import batch_indices, to_input
from jobs.checks import require_possible
from jobs.data.datasets import Dataset, load_dataset
from jobs.data.subsets import draw_subset, subset_digest
from jobs.data.whole import WholeImages
from jobs.evaluation import Tally, evaluate
from jobs.numerics import memory_format
from jobs.randomness import Purpose, generator
from jobs.recipes import augments, crops_whole
from jobs.specs import ALL, FinetuneSpec
from jobs.training import Training
from jobs.transfer import calibrate, set_training_modes, transfer
from jobs.trial import Pin
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
        """Set the trial to its start. Loading and freezing are deterministic; nothing global is touched.

        Args:
            data: with whole training images if the trial crops them from these.
        """
        assert crops_whole(spec) == isinstance(data.train.images_NCHW, WholeImages), "loaded as the recipe crops them"
        self.weights = weights
        self.data = data
        self.subset = draw_subset(data.train.labels_N, spec.images, spec.seed)
        self.augmented = augments(spec)
        self._kept: Kept | None = None
        super().__init__(spec, transfer(spec, weights), device)

    @property
    def pins(self) -> tuple[Pin, ...]:
        return (
            Pin("sources", self.spec.source, self.weights.sha256),
            Pin("datasets", self.spec.dataset, self.data.sha256),
            *(Pin(*own) for own in registry.own_digests([self.spec.source], [self.spec.dataset])),
        )

    @property
    def facts(self) -> Mapping[str, object]:
        source = registry.source(self.spec.source)
        return {
            "constraint": source.constraint.value,
            "epsilon": source.epsilon,
            "images_used": len(self.subset),
            "test_images": len(self.data.test.labels_N),
            "weights_sha256": self.weights.sha256,
            "dataset_sha256": self.data.sha256,
            "subset_sha256": self.subset_sha256,
        }

    @property
    def subset_sha256(self) -> str:
        return subset_digest(self.subset)

    def _batches_of(self, epoch: int) -> list[Tensor]:
        return batch_indices(len(self.subset), self.spec.recipe.batch_size, self.spec.seed, epoch)

    @property
    def cut(self) -> int | None:
        """The number of frozen blocks before the head; None when not even the stem is frozen."""
        return None if self.spec.blocks == ALL else len(self.network.blocks) - self.spec.blocks

    def kept(self, below: "Finetuning | None" = None) -> Kept:
        """What the trunk need not compute again, computed or found at the first call: after ``calibrate``.

        Args:
            below: a trial of the same bundle in which fewer blocks are frozen.
        """
        if self._kept is None:
            self._kept = kept_activations(self, below)
        return self._kept

    def _train_batch(self, indices: Tensor) -> None:
        self.calibrate()
        activations = self.kept().train
        set_training_modes(self.network, self.spec)
        if activations is None:
            logits_NK = self.network(self.training_images(indices))
        else:
            logits_NK = self.head(activations.part(indices))
        self.learn(logits_NK, self.training_labels(indices))

    def training_images(self, indices: Tensor) -> Tensor:
        """A batch of the subset: images N x 3 x H x W in [0, 1], augmented by the recipe."""
        images, chosen_N = self.data.train.images_NCHW, self.subset[indices]
        if not self.augmented:
            return to_input(images[chosen_N], self.device, memory_format(self.spec.recipe))
        rng = generator(self.spec.seed, Purpose.AUGMENTATION, self.epoch, self.batch)
        draws = draw(len(indices), rng)
        if isinstance(images, WholeImages):
            images_NCHW, draws = crops_of_whole(images, chosen_N, draws, rng)
        else:
            images_NCHW = images[chosen_N]
        images_NCHW = augment(images_NCHW.to(self.device), draws)
        return to_input(images_NCHW, self.device, memory_format(self.spec.recipe))

    def training_labels(self, indices: Tensor) -> Tensor:
        """The labels N of a batch of the subset."""
        return self.data.train.labels_N[self.subset[indices]].to(self.device)

    def head(self, x_NCHW: Tensor) -> Tensor:
        """Logits N x K from activations at the cut; from images when nothing is frozen."""
        logits_NK: Tensor = self.network(x_NCHW) if self.cut is None else self.network.head(x_NCHW, self.cut)
        return logits_NK

    def learn(self, logits_NK: Tensor, labels_N: Tensor) -> None:
        """One step of the optimiser, from the logits of a batch; counts them in the tally."""
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(logits_NK, labels_N)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.tally.add(logits_NK.detach(), labels_N, loss.detach())

    def calibrate(self) -> None:
        """Before the first batch, if the recipe says so: estimate the frozen statistics on the subset, not augmented,
        in its own order. Checkpoints hold them.
        """
        if self.spec.recipe.frozen_batchnorm != "calibrated" or self.position != (1, 0):
            return
        parts = torch.split(self.subset, self.spec.recipe.batch_size)
        images, form = self.data.train.images_NCHW, memory_format(self.spec.recipe)
        calibrate(self.network, self.spec.blocks, (to_input(images[part], self.device, form) for part in parts))

    def _evaluate_epoch(self) -> Evaluation | None:
        if not self.evaluates:
            return None
        activations = self.kept().test
        take, forward = (self.test_images, self.network) if activations is None else (activations.part, self.head)
        batches = ((take(part), labels_N) for part, labels_N in self.test_batches())
        return self.row(evaluate(self.network, batches, forward))

    @property
    def evaluates(self) -> bool:
        """Whether the test set is evaluated after this epoch."""
        return self.epoch in self.spec.evaluated_epochs

    def test_batches(self) -> Iterator[tuple[slice, Tensor]]:
        """The batches of the test set, in order: which images, and their labels N."""
        labels_N, size = self.data.test.labels_N, self.spec.recipe.evaluation_batch_size
        for start in range(0, len(labels_N), size):
            part = slice(start, start + size)
            yield part, labels_N[part].to(self.device)

    def test_images(self, part: slice) -> Tensor:
        """Test images N x 3 x H x W in [0, 1]."""
        return to_input(self.data.test.images_NCHW[part], self.device, memory_format(self.spec.recipe))

    def row(self, test: Tally) -> Evaluation:
        """The numbers after this epoch, given those on the test set; the seconds are filled in later."""
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
    data = load_dataset(spec.dataset, image_size, whole_training=crops_whole(spec))
    return Finetuning(spec, weights, data, device)
