"""Operations that only some trials have, each with a digest of its own in the device kind."""

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_weights

from jobs.execution.optimizers import fuses_steps
from jobs.execution.probe import CONVOLUTIONS, FORMATS, Numbers, gradients, network_operations


def _stepped_by_adamw(numbers: Numbers) -> Iterator[Tensor]:
    """Take steps with AdamW, in both memory formats and on few and on many numbers; on a GPU, fused and not."""
    device = numbers.of(1).device
    ways = dict.fromkeys((fuses_steps("float16", device), fuses_steps("float32", device)))
    for fused, memory_format in product(ways, FORMATS):
        trained = [
            numbers.of(24, 16, 3, 3, memory_format=memory_format),
            numbers.of(2048, 10, offset=5),
            numbers.of(7, offset=3),
        ]
        trained = [parameter.clone().requires_grad_() for parameter in trained]
        optimizer = torch.optim.AdamW(
            trained, lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05, fused=fused or None
        )
        for step in range(4):
            for parameter in trained:
                gradients = numbers.of(parameter.numel(), offset=11 + step)
                parameter.grad = torch.empty_like(parameter).copy_(gradients.view(parameter.shape))
            optimizer.param_groups[0]["lr"] = 0.01 / (1 + step)
            optimizer.step()
            yield from (parameter.detach().clone() for parameter in trained)


def _cosines(numbers: Numbers) -> Iterator[Tensor]:
    """Compute learning rates of the schedule ``cosine``: the C library's cosines, on the CPU."""
    for epochs in (7, 30, 100, 150, 1000):
        yield torch.tensor([math.cos(math.pi * epoch / epochs) for epoch in range(epochs)], dtype=torch.float64)


def _grouped(numbers: Numbers) -> Iterator[Tensor]:
    """Compute convolutions whose channels are divided into groups, down to one channel per group."""
    for channels, groups, kernel in ((96, 96, 7), (32, 32, 3), (64, 16, 3)):
        for memory_format in FORMATS:
            x = numbers.of(4, channels, 14, 14, offset=3, memory_format=memory_format).requires_grad_()
            weight = numbers.of(channels, channels // groups, kernel, kernel, offset=17).requires_grad_()
            y = nn.functional.conv2d(x, weight, padding=kernel // 2, groups=groups)
            yield from (y, *gradients(y, numbers.of(*y.shape, offset=31, memory_format=memory_format), x, weight))


def _activated(numbers: Numbers, *activations: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    """Compute activations and their gradients."""
    for activation in activations:
        x = numbers.of(37, 1031, offset=3).requires_grad_()
        y = activation(x)
        yield from (y, *gradients(y, numbers.of(*y.shape, offset=31), x))


def _smooth(numbers: Numbers) -> Iterator[Tensor]:
    """Compute activations that are made of exponential and error functions."""
    return _activated(
        numbers,
        nn.functional.gelu,
        lambda x: nn.functional.gelu(x, approximate="tanh"),
        nn.functional.silu,
        nn.functional.hardswish,
        torch.sigmoid,
    )


def _other_activations(numbers: Numbers) -> Iterator[Tensor]:
    """Compute further activations that are made of exponential functions and logarithms."""
    return _activated(
        numbers,
        torch.tanh,
        nn.functional.mish,
        nn.functional.elu,
        nn.functional.selu,
        nn.functional.celu,
        nn.functional.softplus,
        nn.functional.logsigmoid,
    )


def _layer_normed(numbers: Numbers) -> Iterator[Tensor]:
    for images, tokens, width in ((4, 50, 192), (8, 1, 768), (2, 17, 1003)):
        x = numbers.of(images, tokens, width, offset=3).requires_grad_()
        scale, shift = numbers.of(width, offset=5).requires_grad_(), numbers.of(width, offset=7).requires_grad_()
        y = nn.functional.layer_norm(x, (width,), scale, shift)
        yield from (y, *gradients(y, numbers.of(*y.shape, offset=31), x, scale, shift))


def _group_normed(numbers: Numbers) -> Iterator[Tensor]:
    for images, channels, size, groups in ((4, 64, 14, 32), (8, 12, 7, 3), (2, 96, 5, 1)):
        for memory_format in FORMATS:
            x = numbers.of(images, channels, size, size, offset=3, memory_format=memory_format).requires_grad_()
            scale, shift = (numbers.of(channels, offset=offset).requires_grad_() for offset in (5, 7))
            y = nn.functional.group_norm(x, groups, scale, shift)
            yield from (y, *gradients(y, numbers.of(*y.shape, offset=31), x, scale, shift))


def _attended(numbers: Numbers) -> Iterator[Tensor]:
    """Compute attention as trials do (``jobs.networks.arithmetic``)."""
    for images, heads, tokens, width in ((4, 3, 50, 64), (2, 6, 65, 32), (1, 4, 197, 64)):
        q, k, v = (numbers.of(images, heads, tokens, width, offset=offset).requires_grad_() for offset in (3, 5, 7))
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        yield from (y, *gradients(y, numbers.of(*y.shape, offset=31), q, k, v))


def _of_networks(numbers: Numbers) -> Iterator[Tensor]:
    """Compute the operations of networks again, in the precision of the context."""
    for _, tensors in network_operations(numbers):
        yield from tensors


def _folded(numbers: Numbers) -> Iterator[Tensor]:
    """Fold BatchNorm layers into convolutions, and compute these with their biases."""
    with torch.no_grad():
        for convolution in CONVOLUTIONS:
            inputs, outputs, kernel, stride, size, images = convolution
            weight = numbers.of(outputs, inputs, kernel, kernel, offset=3, memory_format=torch.channels_last)
            mean, scale, shift = (numbers.of(outputs, offset=offset) for offset in (5, 11, 17))
            folded, bias = fuse_conv_bn_weights(weight, None, mean, scale.square(), 1e-5, scale, shift)
            for memory_format in FORMATS:
                x = numbers.of(images, inputs, size, size, memory_format=memory_format)
                yield nn.functional.conv2d(x, folded, bias, stride, kernel // 2)


class Operation(NamedTuple):
    """An operation that only some trials have."""

    version: int
    """Raised whenever it computes something else; digests of two versions are not comparable."""
    compute: Callable[[Numbers], Iterator[Tensor]]
    on_processor: bool = False
    """Whether trials compute it on the CPU, also if they have a GPU."""

    def where(self, device: torch.device) -> torch.device:
        """Return where a trial on this device computes it."""
        return torch.device("cpu") if self.on_processor else device


OPERATIONS: Mapping[str, Operation] = {
    "adamw": Operation(1, _stepped_by_adamw),
    "attention": Operation(1, _attended),
    "bfloat16": Operation(1, _of_networks),
    "cosine": Operation(1, _cosines, on_processor=True),
    "folded": Operation(1, _folded),
    "float16": Operation(1, _of_networks),
    "group-norm": Operation(1, _group_normed),
    "grouped-convolution": Operation(1, _grouped),
    "layer-norm": Operation(1, _layer_normed),
    "other-activation": Operation(1, _other_activations),
    "smooth-activation": Operation(1, _smooth),
}
"""What trials compute beyond the probe, by the names in ``Execution.operations`` and ``Network.operations``. An
addition here changes no device kind of a trial that does not name it.
"""
