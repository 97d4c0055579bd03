"""A trial of the kind ``darkness`` in progress."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jobs.data.batches import to_input
from jobs.execution.determinism import memory_format
from jobs.kinds.diagnostic.trial import DiagnosticTrial, drawn_images

from .spec import DarknessSpec, brightness


class Accuracy(NamedTuple):
    """Accuracy (percent) and time (seconds) at one level."""

    level: int
    brightness: float
    accuracy: float
    seconds: float


class Darkness(DiagnosticTrial[DarknessSpec, Accuracy]):
    """One pass over the images for each level."""

    evaluation = Accuracy

    @property
    def epochs(self) -> int:
        return self.spec.levels

    def tensors(self) -> dict[str, Tensor]:
        """Return no tensors, because every checkpoint already contains the position and the tally."""
        return {}

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        """Load nothing; see ``tensors``."""

    def _batches_of(self, epoch: int) -> list[Tensor]:
        images = drawn_images(len(self.data.test.labels_N), self.spec.test_images, self.spec.seed)
        return list(torch.split(images, self.spec.recipe.evaluation_batch_size))

    def _run_batch(self) -> Sequence[Accuracy]:
        images, level = self.batches[self.batch], self.epoch
        bright = brightness(level, self.spec.levels)
        x_NCHW = to_input(self.data.test.images_NCHW[images], self.device, memory_format(self.spec.recipe))
        labels_N = self.data.test.labels_N[images].to(self.device)
        with torch.no_grad():
            logits_NK = self.network(bright * x_NCHW)
            self.tally.add(logits_NK, labels_N, nn.functional.cross_entropy(logits_NK, labels_N))
        return [Accuracy(level, bright, self.tally.accuracy_percent, 0.0)] if self.ends_epoch else []
