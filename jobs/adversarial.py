"""Adversarial evaluation: the accuracy of a network on test images that are moved against it (Table 1b)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jobs import registry
from jobs.attacks import draw_noise, perturb
from jobs.batches import to_input
from jobs.checks import require_possible
from jobs.data.datasets import Dataset, load_dataset
from jobs.data.subsets import subset_digest
from jobs.examination import Examination, Examined, drawn_images, examined_network
from jobs.numerics import memory_format
from jobs.randomness import Purpose, generator
from jobs.results import Store
from jobs.specs import AttackSpec
from jobs.trial import require_shapes


class UnderAttack(NamedTuple):
    """The numbers of one ball. Accuracies in percent, loss in nats, time in seconds."""

    accuracy: float
    """Of attacked images, over all restarts."""
    robust_accuracy: float
    """Of images that no restart moved to another label."""
    loss: float
    """Mean cross-entropy of attacked images, over all restarts."""
    seconds: float


class AdversarialEvaluation(Examination[AttackSpec, UnderAttack]):
    """An adversarial evaluation in progress. Each restart is a pass over the attacked images."""

    evaluation = UnderAttack

    def __init__(self, spec: AttackSpec, examined: Examined, data: Dataset, device: torch.device) -> None:
        self.chosen = drawn_images(len(data.test.labels_N), spec.test_images, spec.seed)
        self._right = torch.zeros(len(self.chosen), dtype=torch.int64)
        self._loss = torch.zeros(len(self.chosen), dtype=torch.float64)
        super().__init__(spec, examined, data, device)

    @property
    def facts(self) -> Mapping[str, object]:
        return {
            **super().facts,
            "test_images_used": len(self.chosen),
            "subset_sha256": subset_digest(self.chosen),
        }

    @property
    def epochs(self) -> int:
        return self.spec.restarts

    def tensors(self) -> dict[str, Tensor]:
        """By image: in how many restarts it was right, and the sum of its losses."""
        return {"right": self._right, "loss": self._loss}

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        require_shapes(self.tensors(), tensors)
        self._right, self._loss = tensors["right"].clone(), tensors["loss"].clone()

    def _batches_of(self, epoch: int) -> list[Tensor]:
        """Positions among the chosen images, in order."""
        return list(torch.split(torch.arange(len(self.chosen)), self.spec.recipe.evaluation_batch_size))

    def _run_batch(self) -> Sequence[UnderAttack]:
        spec, form, part = self.spec, memory_format(self.spec.recipe), self.batches[self.batch]
        images = self.chosen[part]
        x_NCHW = to_input(self.data.test.images_NCHW[images], self.device, form)
        labels_N = self.data.test.labels_N[images].to(self.device)
        rng = generator(spec.seed, Purpose.PERTURBATION, self.epoch, self.batch)
        noise = draw_noise(spec.threat, tuple(x_NCHW.shape), rng)
        x_NCHW = perturb(self.network, x_NCHW, labels_N, spec.threat, noise)
        with torch.no_grad():
            logits_NK = self.network(x_NCHW.contiguous(memory_format=form))
        self._right[part] += (logits_NK.argmax(1) == labels_N).cpu()
        self._loss[part] += nn.functional.cross_entropy(logits_NK, labels_N, reduction="none").cpu()
        ends = self.ends_epoch and self.epoch == self.epochs
        return [self._row()] if ends else []

    def _row(self) -> UnderAttack:
        attacks = self.spec.restarts * len(self.chosen)
        return UnderAttack(
            accuracy=100 * int(self._right.sum()) / attacks,
            robust_accuracy=100 * int((self._right == self.spec.restarts).sum()) / len(self.chosen),
            loss=float(self._loss.sum()) / attacks,
            seconds=0.0,
        )


def open_adversarial(store: Store, spec: AttackSpec, device: torch.device) -> AdversarialEvaluation:
    """Load what a trial needs and set it to its start.

    Raises:
        InvalidRequest: when the trial cannot exist.
        MissingData, DamagedFile: when its weights or images are not here, or not what they should be.
    """
    require_possible(spec)
    image_size = registry.architecture(registry.source(spec.source).architecture).image_size
    return AdversarialEvaluation(spec, examined_network(store, spec), load_dataset(spec.dataset, image_size), device)
