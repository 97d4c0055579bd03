"""Feature visualisation: images that raise one feature of the penultimate layer (paper, Figure 1b and A.1).

The way is that of the robustness library's authors (github.com/MadryLab/robust_representations): from a seed image, so
many L2 steps of fixed length up the gradient of the feature, each projected back into the ball and into [0, 1].
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from robustness.attack_steps import L2Step
from torch import Tensor
from torchvision.models.resnet import Bottleneck

from jobs import registry
from jobs.attacks import ascend
from jobs.batches import to_input
from jobs.checks import require_possible
from jobs.data.datasets import Dataset, load_dataset
from jobs.data.subsets import subset_digest
from jobs.examination import Examination, Examined, drawn_images, examined_network
from jobs.networks import Network
from jobs.results import Store
from jobs.specs import VisualizeSpec
from jobs.trial import require_shapes


class Visualized(NamedTuple):
    """What a seed image became. Distance L2, for images in [0, 1]; time in seconds."""

    test_image: int
    activation_before: float
    activation_after: float
    distance: float
    image_size: int
    image: bytes
    """Rows from the top, of pixels of red, green and blue."""
    seconds: float


class Visualization(Examination[VisualizeSpec, Visualized]):
    """Seed images on their way, all at once: a batch is one step of one part of them."""

    evaluation = Visualized

    def __init__(self, spec: VisualizeSpec, examined: Examined, data: Dataset, device: torch.device) -> None:
        self.chosen = drawn_images(len(data.test.labels_N), spec.test_images, spec.seed)
        self._seeds_NCHW = to_input(data.test.images_NCHW[self.chosen], device, torch.contiguous_format)
        self._moved_NCHW = self._seeds_NCHW.clone()
        super().__init__(spec, examined, data, device)

    @property
    def facts(self) -> Mapping[str, object]:
        return {**super().facts, "subset_sha256": subset_digest(self.chosen)}

    @property
    def epochs(self) -> int:
        return 1

    def tensors(self) -> dict[str, Tensor]:
        """The images, as far as they have come."""
        return {"moved": self._moved_NCHW}

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        require_shapes(self.tensors(), tensors)
        self._moved_NCHW = tensors["moved"].to(self.device, copy=True)

    def _parts(self) -> list[Tensor]:
        """Positions among the seed images."""
        return list(torch.split(torch.arange(len(self.chosen)), self.spec.recipe.evaluation_batch_size))

    def _batches_of(self, epoch: int) -> list[Tensor]:
        return self._parts() * self.spec.steps

    def _run_batch(self) -> Sequence[Visualized]:
        spec, part = self.spec, self.batches[self.batch]
        step = L2Step(self._seeds_NCHW[part], spec.epsilon, spec.step_size)
        self._moved_NCHW[part] = ascend(
            lambda x_NCHW: passing_features(self.network, x_NCHW)[:, spec.unit].mean(), self._moved_NCHW[part], step, 1
        )
        return self._rows() if self.ends_epoch else []

    def _rows(self) -> list[Visualized]:
        moved_NCHW = self._moved_NCHW
        distances_N = (moved_NCHW - self._seeds_NCHW).flatten(1).norm(dim=1)
        bytes_NHWC = moved_NCHW.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().contiguous()
        columns: tuple[list[Any], ...] = (
            self.chosen.tolist(),
            self._activations(self._seeds_NCHW).tolist(),
            self._activations(moved_NCHW).tolist(),
            distances_N.tolist(),
            [bytes_NHWC.shape[1]] * len(self.chosen),
            [image_HWC.numpy().tobytes() for image_HWC in bytes_NHWC],
        )
        return [Visualized._make((*row, 0.0)) for row in zip(*columns, strict=True)]

    @torch.no_grad()
    def _activations(self, images_NCHW: Tensor) -> Tensor:
        """The feature of each image."""
        blocks = len(self.network.blocks)
        found = [self.network.trunk(images_NCHW[part], blocks)[:, self.spec.unit] for part in self._parts()]
        return torch.cat(found)


def passing_features(network: Network, images_NCHW: Tensor) -> Tensor:
    """Pooled features, N x D, as ``Network.trunk`` gives them; gradients pass the last block's last ReLU as if it were
    the identity, as the robustness library's do (``fake_relu``): a feature that is 0 everywhere can rise.
    """
    *blocks, last = network.blocks
    before_NCHW = _before_last_relu(last, network.trunk(images_NCHW, len(blocks)))
    rectified: Tensor = _PassingReLU.apply(before_NCHW)
    return torch.flatten(network.resnet.avgpool(rectified), 1)


class _PassingReLU(torch.autograd.Function):
    """ReLU forward, the identity backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def _before_last_relu(block: Bottleneck, x_NCHW: Tensor) -> Tensor:
    """What a block computes, but for its last ReLU."""
    shortcut = x_NCHW if block.downsample is None else block.downsample(x_NCHW)
    x_NCHW = block.relu(block.bn1(block.conv1(x_NCHW)))
    x_NCHW = block.relu(block.bn2(block.conv2(x_NCHW)))
    return block.bn3(block.conv3(x_NCHW)) + shortcut  # type: ignore[no-any-return]


def open_visualization(store: Store, spec: VisualizeSpec, device: torch.device) -> Visualization:
    """Load what a trial needs and set it to its start.

    Raises:
        InvalidRequest: when the trial cannot exist.
        MissingData, DamagedFile: when its weights or images are not here, or not what they should be.
    """
    require_possible(spec)
    image_size = registry.architecture(registry.source(spec.source).architecture).image_size
    return Visualization(spec, examined_network(store, spec), load_dataset(spec.dataset, image_size), device)
