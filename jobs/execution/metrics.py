"""Accuracy and loss of a network on a set of images."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jobs.networks.folding import Fold, folded


@dataclass
class RunningMetrics:
    """Running sums of a pass over images; a checkpoint stores them as three numbers."""

    images: int = 0
    correct: int = 0
    loss: float = 0.0

    def add(self, logits_NK: Tensor, labels_N: Tensor, mean_loss: Tensor) -> None:
        """Add one batch, given its mean cross-entropy."""
        count = len(labels_N)
        self.images += count
        self.correct += int((logits_NK.argmax(1) == labels_N).sum())
        self.loss += float(mean_loss) * count

    def include(self, other: "RunningMetrics") -> None:
        """Add the sums of another instance."""
        self.images += other.images
        self.correct += other.correct
        self.loss += other.loss

    @property
    def accuracy_percent(self) -> float:
        return 100 * self.correct / self.images

    @property
    def mean_loss(self) -> float:
        """Mean cross-entropy in nats."""
        return self.loss / self.images


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run a block with ``model`` in evaluation mode; every module's mode is restored afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterator[tuple[Tensor, Tensor]],
    forward: Callable[[Tensor], Tensor] | None = None,
    folds: Sequence[Fold] = (),
) -> RunningMetrics:
    """Return accuracy and loss of ``model`` in evaluation mode; every module's mode is restored afterwards.

    Args:
        batches: inputs and labels, computed without gradients.
        forward: the part of the model that takes the batches' inputs; by default the whole model.
        folds: convolutions of the model that are computed folded.
    """
    tally = RunningMetrics()
    with evaluating(model), folded(folds):
        for images_NCHW, labels_N in batches:
            logits_NK = (forward or model)(images_NCHW)
            tally.add(logits_NK, labels_N, nn.functional.cross_entropy(logits_NK, labels_N))
    return tally
