"""Adversarial evaluation: the accuracy of a network on adversarially perturbed test images (Table 1b)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jobs.catalog.catalog import PACKAGED, Catalog
from jobs.data.batches import to_device, to_input
from jobs.data.datasets import Dataset
from jobs.data.subsets import subset_digest
from jobs.execution.determinism import memory_format
from jobs.execution.seeding import Purpose, generator
from jobs.execution.trial import require_shapes
from jobs.kinds.attack.spec import AttackSpec
from jobs.kinds.diagnostic.trial import DiagnosticTrial, ExaminedNetwork, drawn_images
from jobs.perturbations.pgd import draw_noise, perturb


class UnderAttack(NamedTuple):
    """The numbers of one ball: accuracies in percent, loss in nats, time in seconds."""

    accuracy: float
    """Accuracy on attacked images, over all restarts."""
    robust_accuracy: float
    """Share of images classified correctly in every restart."""
    loss: float
    """Mean cross-entropy on attacked images, over all restarts."""
    seconds: float


class AdversarialEvaluation(DiagnosticTrial[AttackSpec, UnderAttack]):
    """An adversarial evaluation in progress. Each restart is one pass over the attacked images."""

    evaluation = UnderAttack

    def __init__(
        self,
        spec: AttackSpec,
        examined: ExaminedNetwork,
        data: Dataset,
        device: torch.device,
        catalog: Catalog = PACKAGED,
    ) -> None:
        self.chosen = drawn_images(len(data.test.labels_N), spec.test_images, spec.seed)
        self._right = torch.zeros(len(self.chosen), dtype=torch.int64)
        self._loss = torch.zeros(len(self.chosen), dtype=torch.float64)
        super().__init__(spec, examined, data, device, catalog)

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
        """Return, per image, the number of restarts in which it was classified correctly, and the sum of its losses."""
        return {"right": self._right, "loss": self._loss}

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        require_shapes(self.tensors(), tensors)
        self._right, self._loss = tensors["right"].clone(), tensors["loss"].clone()

    def _batches_of(self, epoch: int) -> list[Tensor]:
        """Return positions among the chosen images, in order."""
        return list(torch.split(torch.arange(len(self.chosen)), self.spec.recipe.evaluation_batch_size))

    def _run_batch(self) -> Sequence[UnderAttack]:
        spec, form, part = self.spec, memory_format(self.spec.recipe), self.batches[self.batch]
        images = self.chosen[part]
        x_NCHW = to_input(self.data.test.images_NCHW[images], self.device, form)
        labels_N = to_device(self.data.test.labels_N[images], self.device)
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
