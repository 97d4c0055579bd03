"""Fine-tuning trials in progress (``Finetuning``): from a spec to its rows, one batch at a time."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from jobs.catalog.catalog import PACKAGED, Catalog
from jobs.data.augmentation import augment, crops_of_whole, draw
from jobs.data.batches import batch_indices, to_device, to_input
from jobs.data.datasets import Dataset, load_dataset
from jobs.data.device_images import kept_on
from jobs.data.subsets import draw_subset, subset_digest
from jobs.data.whole_image import WholeImages
from jobs.execution.determinism import memory_format
from jobs.execution.metrics import RunningMetrics, evaluate
from jobs.execution.seeding import Purpose, generator
from jobs.execution.trial import Pin
from jobs.kinds.finetune.activation_cache import CachedActivations, kept_activations
from jobs.kinds.finetune.preprocessing import augments, crops_whole
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.kinds.finetune.transfer import calibrate, set_training_modes, transfer
from jobs.kinds.source_weights import source_weights
from jobs.kinds.training.trial import Training
from jobs.models.weights import SourceWeights
from jobs.results import Store
from jobs.specs.base import ALL


class Evaluation(NamedTuple):
    """The numbers after one evaluated epoch: accuracies in percent, losses in nats, time in seconds."""

    epoch: int
    learning_rate: float
    train_accuracy: float
    train_loss: float
    test_accuracy: float
    test_loss: float
    seconds: float


class Finetuning(Training[FinetuneSpec, Evaluation]):
    """A fine-tuning trial in progress."""

    evaluation = Evaluation

    def __init__(
        self,
        spec: FinetuneSpec,
        weights: SourceWeights,
        data: Dataset,
        device: torch.device,
        catalog: Catalog = PACKAGED,
    ) -> None:
        """Set the trial to its start. Deterministic; changes no global state.

        Args:
            data: with whole training images if the trial takes its crops from these.
        """
        whole = isinstance(data.train.images_NCHW, WholeImages)
        assert crops_whole(spec, catalog) == whole, "the training images are not loaded as the recipe crops them"
        self.catalog = catalog
        self.weights = weights
        self.data = data
        self.subset = draw_subset(data.train.labels_N, spec.images, spec.seed)
        self.augmented = augments(spec, catalog)
        self._kept: CachedActivations | None = None
        super().__init__(spec, transfer(spec, weights, catalog), device)

    @classmethod
    def open(cls, store: Store, spec: FinetuneSpec, catalog: Catalog, device: torch.device) -> Self:
        weights = source_weights(store, catalog.source(spec.source), catalog)
        card, size = catalog.dataset(spec.dataset), catalog.image_size(spec.source)
        data = kept_on(device, load_dataset(card, size, whole_training=crops_whole(spec, catalog)))
        return cls(spec, weights, data, device, catalog)

    @property
    def pins(self) -> tuple[Pin, ...]:
        return (
            Pin("sources", self.spec.source, self.weights.sha256),
            Pin("datasets", self.spec.dataset, self.data.sha256),
            *(Pin(*own) for own in self.catalog.own_digests([self.spec.source], [self.spec.dataset])),
        )

    @property
    def facts(self) -> Mapping[str, object]:
        source = self.catalog.source(self.spec.source)
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
        """Number of frozen blocks before the head; None if not even the stem is frozen."""
        return None if self.spec.blocks == ALL else len(self.network.blocks) - self.spec.blocks

    def kept(self, below: "Finetuning | None" = None) -> CachedActivations:
        """Return the trunk's stored activations; the first call, after ``calibrate``, computes or looks them up.

        Args:
            below: a trial of the same bundle with fewer frozen blocks.
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
        """Return a batch of the subset: images N x 3 x H x W in [0, 1], augmented by the recipe."""
        images, chosen_N = self.data.train.images_NCHW, self.subset[indices]
        if not self.augmented:
            return to_input(images[chosen_N], self.device, memory_format(self.spec.recipe))
        rng = generator(self.spec.seed, Purpose.AUGMENTATION, self.epoch, self.batch)
        draws = draw(len(indices), rng)
        if isinstance(images, WholeImages):
            images_NCHW, draws = crops_of_whole(images, chosen_N, draws, rng)
        else:
            images_NCHW = images[chosen_N]
        images_NCHW = augment(to_device(images_NCHW, self.device), draws)
        return to_input(images_NCHW, self.device, memory_format(self.spec.recipe))

    def training_labels(self, indices: Tensor) -> Tensor:
        """Return the labels N of a batch of the subset."""
        return to_device(self.data.train.labels_N[self.subset[indices]], self.device)

    def head(self, x_NCHW: Tensor) -> Tensor:
        """Return logits N x K from activations at the cut, or from images if nothing is frozen."""
        logits_NK: Tensor = self.network(x_NCHW) if self.cut is None else self.network.head(x_NCHW, self.cut)
        return logits_NK

    def learn(self, logits_NK: Tensor, labels_N: Tensor) -> None:
        """Take one optimizer step, given the logits of a batch, and add the batch to the running sums."""
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(logits_NK, labels_N)
        self.loss_scale.scaled(loss).backward()  # type: ignore[no-untyped-call]
        self.loss_scale.step(self.optimizer)
        self.tally.add(logits_NK.detach(), labels_N, loss.detach())

    def calibrate(self) -> None:
        """Estimate the frozen statistics on the subset, if the recipe calibrates and no batch has run.

        The subset is not augmented and keeps its order. Checkpoints store the statistics.
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
        return self.row(evaluate(self.network, batches, forward, self.folds()))

    @property
    def evaluates(self) -> bool:
        """Whether the test set is evaluated after this epoch."""
        return self.spec.evaluates(self.epoch)

    def test_batches(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield the batches of the test set in order: image slices, and labels N."""
        labels_N, size = self.data.test.labels_N, self.spec.recipe.evaluation_batch_size
        for start in range(0, len(labels_N), size):
            part = slice(start, start + size)
            yield part, to_device(labels_N[part], self.device)

    def test_images(self, part: slice) -> Tensor:
        """Return test images N x 3 x H x W in [0, 1]."""
        return to_input(self.data.test.images_NCHW[part], self.device, memory_format(self.spec.recipe))

    def row(self, test: RunningMetrics) -> Evaluation:
        """Return the row after this epoch, given the test metrics; its ``seconds`` are set later."""
        return Evaluation(
            epoch=self.epoch,
            learning_rate=self.learning_rate,
            train_accuracy=self.tally.accuracy_percent,
            train_loss=self.tally.mean_loss,
            test_accuracy=test.accuracy_percent,
            test_loss=test.mean_loss,
            seconds=0.0,
        )
