"""Feature visualization: images that maximize one feature of the penultimate layer (paper, Figure 1b and A.1).

The method is that of the robustness library's authors (github.com/MadryLab/robust_representations): starting from a
seed image, take L2 steps of fixed length up the gradient of the feature, each projected back into the ball and into
[0, 1].
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from robustness.attack_steps import L2Step
from torch import Tensor, nn

from jobs.catalog.catalog import PACKAGED, Catalog
from jobs.data.batches import to_input
from jobs.data.datasets import Dataset
from jobs.data.subsets import subset_digest
from jobs.execution.trial import require_shapes
from jobs.kinds.diagnostic.trial import DiagnosticTrial, ExaminedNetwork, drawn_images
from jobs.kinds.visualize.spec import VisualizeSpec
from jobs.networks.network import Network
from jobs.perturbations.pgd import ascend


class Visualized(NamedTuple):
    """The image that resulted from a seed image. L2 distance, for images in [0, 1]; time in seconds."""

    test_image: int
    activation_before: float
    activation_after: float
    distance: float
    image_size: int
    image: bytes
    """Rows from the top, pixels as red, green, blue."""
    seconds: float


class Visualization(DiagnosticTrial[VisualizeSpec, Visualized]):
    """A visualization in progress, of all seed images at once: a batch is one step of some of them."""

    evaluation = Visualized

    def __init__(
        self,
        spec: VisualizeSpec,
        examined: ExaminedNetwork,
        data: Dataset,
        device: torch.device,
        catalog: Catalog = PACKAGED,
    ) -> None:
        self.chosen = drawn_images(len(data.test.labels_N), spec.test_images, spec.seed)
        self._seeds_NCHW = to_input(data.test.images_NCHW[self.chosen], device, torch.contiguous_format)
        self._moved_NCHW = self._seeds_NCHW.clone()
        super().__init__(spec, examined, data, device, catalog)
        self._features = PassingFeatures(self.network)

    @property
    def facts(self) -> Mapping[str, object]:
        return {**super().facts, "subset_sha256": subset_digest(self.chosen)}

    @property
    def epochs(self) -> int:
        return 1

    def tensors(self) -> dict[str, Tensor]:
        """Return the current images."""
        return {"moved": self._moved_NCHW}

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        require_shapes(self.tensors(), tensors)
        self._moved_NCHW = tensors["moved"].to(self.device, copy=True)

    def _parts(self) -> list[Tensor]:
        """Return positions among the seed images."""
        return list(torch.split(torch.arange(len(self.chosen)), self.spec.recipe.evaluation_batch_size))

    def _batches_of(self, epoch: int) -> list[Tensor]:
        return self._parts() * self.spec.steps

    def _run_batch(self) -> Sequence[Visualized]:
        spec, part = self.spec, self.batches[self.batch]
        step = L2Step(self._seeds_NCHW[part], spec.epsilon, spec.step_size)
        self._moved_NCHW[part] = ascend(
            lambda x_NCHW: self._features(x_NCHW)[:, spec.unit].float().mean(),
            self._moved_NCHW[part],
            step,
            1,
            spec.recipe.precision,
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
        """Return the feature's activation for each image."""
        blocks = len(self.network.blocks)
        activations = [self.network.trunk(images_NCHW[part], blocks)[:, self.spec.unit] for part in self._parts()]
        return torch.cat(activations).float()


class PassingFeatures:
    """Features of a network, N x D, as by ``Network.trunk``, with gradients that pass the last rectifier unchanged.

    As in the robustness library (``fake_relu``), the last rectifier (ReLU, or ReLU6) before the features acts as the
    identity in the backward pass, so that a feature that is 0 everywhere can increase. If the last block and the tail
    have none, gradients are those of the network.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        last = [*network.blocks[-1].modules(), *network.tail.modules()]
        self._rectifiers = list(dict.fromkeys(module for module in last if _rectifies(module)))
        self._calls: int | None = None
        """How often these modules are called in one pass, once it is known."""

    def __call__(self, images_NCHW: Tensor) -> Tensor:
        blocks = len(self._network.blocks)
        before = self._network.trunk(images_NCHW, blocks - 1)
        if self._calls is None:
            with torch.no_grad(), self._passing_at(0) as calls:
                self._network.between(before.detach().clone(), blocks - 1, blocks)
            self._calls = len(calls)
        with self._passing_at(self._calls):
            return self._network.between(before, blocks - 1, blocks)

    @contextmanager
    def _passing_at(self, number: int) -> Iterator[list[nn.Module]]:
        """Replace one call of a rectifier, numbered from 1; yield a list to which calls are added."""
        calls: list[nn.Module] = []
        replaced: list[Tensor] = []

        def enter(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            calls.append(module)
            if len(calls) != number:
                return None
            replaced.append(inputs[0])
            return (inputs[0].detach().clone(),)  # a rectifier may overwrite its input

        def leave(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            return _Passing.apply(replaced.pop(), output) if replaced else None

        hooks = [module.register_forward_pre_hook(enter) for module in self._rectifiers]
        hooks += [module.register_forward_hook(leave) for module in self._rectifiers]
        try:
            yield calls
        finally:
            for hook in hooks:
                hook.remove()


def _rectifies(module: nn.Module) -> bool:
    """Whether a module sets negative numbers to 0, and is linear from 0 on, at least up to a bound."""
    return isinstance(module, nn.ReLU) or (isinstance(module, nn.Hardtanh) and module.min_val == 0)


class _Passing(torch.autograd.Function):
    """The output of a rectifier, with the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, output: Tensor) -> Tensor:
        return output.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None
