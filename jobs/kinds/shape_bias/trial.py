"""Trials of the kind ``shape_bias``: whether networks decide by shape or by texture on images where the two conflict
(paper, Section 5; Geirhos et al. 2019).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jobs.catalog.catalog import PACKAGED, Catalog
from jobs.catalog.categories import categories
from jobs.data.batches import to_input
from jobs.data.datasets import Cues, Dataset
from jobs.execution.determinism import memory_format
from jobs.kinds.diagnostic.trial import DiagnosticTrial, ExaminedNetwork
from jobs.kinds.shape_bias.spec import ShapeBiasSpec


class Decision(NamedTuple):
    """A network's decision on one image, and the labels of its cues, as label names; time in seconds."""

    test_image: int
    shape: str
    texture: str
    decision: str
    seconds: float


class ShapeBiasTrial(DiagnosticTrial[ShapeBiasSpec, Decision]):
    """A shape bias trial in progress: one pass over the images, one row for each."""

    evaluation = Decision

    def __init__(
        self,
        spec: ShapeBiasSpec,
        examined: ExaminedNetwork,
        data: Dataset,
        device: torch.device,
        catalog: Catalog = PACKAGED,
    ) -> None:
        assert data.cues is not None, f"the cues of {data.name} do not conflict"
        self._cues: Cues = data.cues
        super().__init__(spec, examined, data, device, catalog)

    @property
    def facts(self) -> Mapping[str, object]:
        return {**super().facts, "network_labels": self.network.fc.out_features}

    @property
    def epochs(self) -> int:
        return 1

    def tensors(self) -> dict[str, Tensor]:
        """Return no tensors: a checkpoint stores the rows so far."""
        return {}

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        """Do nothing: there are no tensors."""

    def _batches_of(self, epoch: int) -> list[Tensor]:
        """Return image indices in order."""
        return list(torch.split(torch.arange(len(self.data.test.labels_N)), self.spec.recipe.evaluation_batch_size))

    def _run_batch(self) -> Sequence[Decision]:
        part, names = self.batches[self.batch], self._cues.names
        x_NCHW = to_input(self.data.test.images_NCHW[part], self.device, memory_format(self.spec.recipe))
        with torch.no_grad():
            decided_N = decide(self.network(x_NCHW).cpu(), names)
        columns = (part, self.data.test.labels_N[part], self._cues.textures_N[part], decided_N)
        return [
            Decision(image, names[shape], names[texture], names[decision], 0.0)
            for image, shape, texture, decision in zip(*(column.tolist() for column in columns), strict=True)
        ]


def decide(logits_NL: Tensor, names: Sequence[str]) -> Tensor:
    """Return the position among ``names`` of the label or category that a network chooses, N; ties go to the first.

    If the network has as many labels as there are names, it chooses the largest logit. Otherwise its labels are
    ImageNet's: it chooses the category whose labels have the largest mean probability, in float64. Labels outside all
    categories are ignored (as recommended by Geirhos et al. and in their code).
    """
    if logits_NL.shape[1] == len(names):
        return logits_NL.argmax(1)
    probabilities_NL = logits_NL.double().softmax(1)
    means = [probabilities_NL[:, list(categories()[name])].mean(1) for name in names]
    return torch.stack(means, 1).argmax(1)
