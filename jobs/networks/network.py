"""Networks in trials: a normalizer and the parts of a network, so that "the last k blocks" has one meaning everywhere.

Shape suffixes: N images, C channels, H height, W width, D features, K labels. Activations between two parts have the
shape that the network gives them: N x C x H x W in convolutional networks, N x L x D (tokens) in vision transformers.
"""

import hashlib
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from jobs.networks.arithmetic import mixed_precision
from jobs.networks.drawing import Draw, DrawingLayer
from jobs.networks.families import parts_of
from jobs.networks.folding import Fold, folds_of
from jobs.networks.parts import Parts
from jobs.specs.optimizers import Precision


class Network(nn.Module):
    """A network preceded by its normalizer; maps images in [0, 1] to logits.

    The trunk is the frozen part: the stem and all but the last ``blocks`` blocks; the head is the rest. The head always
    includes ``fc``, and the tail unless all blocks are frozen.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module | Parts, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        parts = parts_of(model)
        self.model: Any = parts.model  # Any: its attributes are those of its architecture
        self.stem = parts.stem
        self._blocks = nn.ModuleList(parts.blocks)
        self.tail = parts.tail
        self._fc = parts.fc
        self._builder = parts.builder
        self.precision: Precision = "float32"
        """Format of the arithmetic between normalized images and logits; both are float32."""
        self.fixed = frozenset(
            name
            for name, parameter in parts.model.named_parameters()
            if not parameter.requires_grad and not name.startswith(f"{parts.fc}.")
        )
        """Names of parameters that the network's builder fixed (``requires_grad=False``): no trial trains them."""
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    @property
    def blocks(self) -> list[Any]:
        """All blocks in order (16 in ResNet-50)."""
        return list(self._blocks)

    @property
    def fc(self) -> nn.Linear:
        """The last layer, from features to logits."""
        layer = self.model.get_submodule(self._fc)
        assert isinstance(layer, nn.Linear)
        return layer

    def replace_fc(self, layer: nn.Linear) -> None:
        """Replace the last layer."""
        self.model.set_submodule(self._fc, layer)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        return self.head(self.trunk(images_NCHW, 0), 0)

    def normalized(self, images_NCHW: Tensor) -> Tensor:
        """Normalize images: the input of the stem."""
        return (images_NCHW - self.mean) / self.std

    def trunk_modules(self, cut: int) -> list[nn.Module]:
        """Return the stem, the first ``cut`` blocks and, if these are all blocks, the tail."""
        return [self.stem, *self.blocks[:cut], *([self.tail] if cut == len(self._blocks) else [])]

    def in_its_precision(self) -> AbstractContextManager[Any]:
        """Return a context in which its modules compute in ``precision``."""
        return mixed_precision(self.precision, self.mean.device)

    def trunk(self, images_NCHW: Tensor, cut: int) -> Tensor:
        """Apply normalization, stem and the first ``cut`` blocks: activations.

        If ``cut`` is the number of blocks, the result is features, N x D.
        """
        with self.in_its_precision():
            return self.between(self.stem(self.normalized(images_NCHW)), 0, cut)

    def between(self, activations: Tensor, first: int, last: int) -> Tensor:
        """Apply the blocks from ``first`` up to, not including, ``last``: activations.

        The tail goes with the last block: after it, the result is features, N x D.
        """
        x = activations
        with self.in_its_precision():
            for block in self.blocks[first:last]:
                x = block(x)
            return self.tail(x) if first < last == len(self._blocks) else x

    def head(self, activations: Tensor, cut: int) -> Tensor:
        """Apply the blocks from ``cut`` on, with the tail, and the last layer: logits, N x K.

        Args:
            activations: result of ``trunk``.
        """
        with self.in_its_precision():
            logits_NK: Tensor = self.fc(self.between(activations, cut, len(self._blocks)))
        return logits_NK.float()

    @cached_property
    def operations(self) -> tuple[str, ...]:
        """What the network computes beyond convolutions, BatchNorm, ReLU and linear layers.

        These are names of ``jobs.execution.operations.OPERATIONS``.
        """
        found: set[str] = set()
        for module in self.model.modules():
            if isinstance(module, nn.Conv2d) and module.groups > 1:
                found.add("grouped-convolution")
            elif isinstance(module, nn.GELU | nn.SiLU | nn.Hardswish | nn.Sigmoid):
                found.add("smooth-activation")
            elif isinstance(module, nn.Tanh | nn.Mish | nn.ELU | nn.SELU | nn.CELU | nn.Softplus | nn.LogSigmoid):
                found.add("other-activation")
            elif isinstance(module, nn.LayerNorm):
                found.add("layer-norm")
            elif isinstance(module, nn.GroupNorm):
                found.add("group-norm")
            elif "Attention" in type(module).__name__:
                found.add("attention")
        return tuple(sorted(found))

    def folds(self, images_NCHW: Tensor) -> tuple[Fold, ...]:
        """Return the convolutions that can be folded in evaluation; the network is in evaluation mode.

        Args:
            images_NCHW: one image or more, in [0, 1].
        """
        with self.in_its_precision():
            return folds_of([self.stem, *self.blocks, self.tail], self.normalized(images_NCHW))

    def draw_from(self, draw: Draw) -> None:
        """Set where layers that draw get their random numbers."""
        for module in self.model.modules():
            if isinstance(module, DrawingLayer):
                module.draw = draw

    def trunk_digest(self, cut: int) -> str:
        """Return the sha256 of the trunk: its builder, its normalizer, and the names and tensors of its modules."""
        hasher = hashlib.sha256(f"{self._builder}\n".encode())
        states = [module.state_dict() for module in self.trunk_modules(cut)]
        for state in ({"mean": self.mean, "std": self.std}, *states):
            for name, tensor in state.items():
                hasher.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
                hasher.update(tensor.detach().cpu().contiguous().numpy().data)
        return hasher.hexdigest()

    def same_trunk(self, other: "Network", cut: int) -> bool:
        """Return whether stem and first ``cut`` blocks have the same tensors as another's, bit for bit."""
        return all(torch.equal(mine, theirs) for mine, theirs in self._trunk_pairs(other, cut))

    def adopt_trunk(self, other: "Network", cut: int) -> None:
        """Store stem and first ``cut`` blocks in another network's tensors, which are shared from then on."""
        for mine, theirs in self._trunk_pairs(other, cut):
            mine.data = theirs.data

    def _trunk_pairs(self, other: "Network", cut: int) -> list[tuple[Tensor, Tensor]]:
        return [
            pair
            for mine, theirs in zip(self.trunk_modules(cut), other.trunk_modules(cut), strict=True)
            for pair in (
                *zip(mine.parameters(), theirs.parameters(), strict=True),
                *zip(mine.buffers(), theirs.buffers(), strict=True),
            )
        ]


def layers_with_statistics(module: nn.Module) -> list[_NormBase]:
    """Return the layers of BatchNorm and InstanceNorm that keep running statistics for evaluation."""
    return [layer for layer in module.modules() if isinstance(layer, _NormBase) and layer.track_running_stats]
