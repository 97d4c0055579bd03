"""A trial of the kind ``shape_bias``: images whose shape and texture are of two labels, and which of the two a network
sees (paper, Section 5; Geirhos et al. 2019).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jobs import registry
from jobs.batches import to_input
from jobs.checks import require_possible
from jobs.data.datasets import Cues, Dataset, load_dataset
from jobs.examination import Examination, Examined, examined_network
from jobs.numerics import memory_format
from jobs.registry.categories import categories
from jobs.results import Store
from jobs.specs import ShapeBiasSpec


class Decision(NamedTuple):
    """What a network says of one image, beside what its cues say: names of labels; time in seconds."""

    test_image: int
    shape: str
    texture: str
    decision: str
    seconds: float


class ShapeBiasTrial(Examination[ShapeBiasSpec, Decision]):
    """Decisions in progress: one pass over the images, each of which is a row."""

    evaluation = Decision

    def __init__(self, spec: ShapeBiasSpec, examined: Examined, data: Dataset, device: torch.device) -> None:
        assert data.cues is not None, f"the cues of {data.name} do not conflict"
        self._cues: Cues = data.cues
        super().__init__(spec, examined, data, device)

    @property
    def facts(self) -> Mapping[str, object]:
        return {**super().facts, "network_labels": self.network.resnet.fc.out_features}

    @property
    def epochs(self) -> int:
        return 1

    def tensors(self) -> dict[str, Tensor]:
        """Nothing: a checkpoint has the rows so far."""
        return {}

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        """There is nothing to take over."""

    def _batches_of(self, epoch: int) -> list[Tensor]:
        """Images in order."""
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
    """The place among ``names`` of the label or category that a network decides for, N; the first of equals.

    A network of as many labels as there are names decides for the largest logit. One of more labels, which are
    ImageNet's, decides for the category whose labels have the largest probability in the mean, in float64; labels of no
    category count for nothing (Geirhos et al.: their code, and how they recommend it).
    """
    if logits_NL.shape[1] == len(names):
        return logits_NL.argmax(1)
    probabilities_NL = logits_NL.double().softmax(1)
    means = [probabilities_NL[:, list(categories()[name])].mean(1) for name in names]
    return torch.stack(means, 1).argmax(1)


def open_shape_bias(store: Store, spec: ShapeBiasSpec, device: torch.device) -> ShapeBiasTrial:
    """Load what a trial needs and set it to its start.

    Raises:
        InvalidRequest: when the trial cannot exist.
        MissingData, DamagedFile: when its weights or images are not here, or not what they should be.
    """
    require_possible(spec)
    image_size = registry.architecture(registry.source(spec.source).architecture).image_size
    return ShapeBiasTrial(spec, examined_network(store, spec), load_dataset(spec.dataset, image_size), device)
