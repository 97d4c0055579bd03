"""Accuracy and loss of a network on a set of images."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jobs.networks.folding import Fold, folded

_MOST_WAITING = 16
"""Batches whose numbers may stay on a GPU. It bounds how far ahead of the GPU this process prepares batches."""


class Sums(NamedTuple):
    """What a checkpoint stores of a pass over images."""

    images: int
    correct: int
    loss: float
    """Sum of the images' cross-entropies in nats."""


class _Batch(NamedTuple):
    images: int
    correct: Tensor
    mean_loss: Tensor


class RunningMetrics:
    """Running sums of a pass over images.

    The numbers of a batch stay on its device until the sums are read, because reading them would make this process wait
    for a GPU, and the GPU for the next batch. They are added one after another in the order of the batches, so the sums
    do not depend on when they are read.
    """

    def __init__(self, images: int = 0, correct: int = 0, loss: float = 0.0) -> None:
        """Continue with these sums."""
        self._sums = Sums(images, correct, loss)
        self._waiting: list[_Batch] = []

    def add(self, logits_NK: Tensor, labels_N: Tensor, mean_loss: Tensor) -> None:
        """Add one batch, given its mean cross-entropy."""
        correct = (logits_NK.argmax(1) == labels_N).sum()
        self._waiting.append(_Batch(len(labels_N), correct, mean_loss.detach()))
        if len(self._waiting) >= _MOST_WAITING:
            self._read()

    def include(self, other: "RunningMetrics") -> None:
        """Add the sums of another instance."""
        mine, its = self.sums, other.sums
        self._sums = Sums(mine.images + its.images, mine.correct + its.correct, mine.loss + its.loss)

    @property
    def sums(self) -> Sums:
        """The sums of all batches so far."""
        self._read()
        return self._sums

    @property
    def accuracy_percent(self) -> float:
        return 100 * self.sums.correct / self.sums.images

    @property
    def mean_loss(self) -> float:
        """Mean cross-entropy in nats."""
        return self.sums.loss / self.sums.images

    def _read(self) -> None:
        images, correct, loss = self._sums
        for batch in self._waiting:
            images += batch.images
            correct += int(batch.correct)
            loss += float(batch.mean_loss) * batch.images
        self._sums = Sums(images, correct, loss)
        self._waiting.clear()


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
