"""What the probe of a device kind computes: the operations of every trial, on fixed numbers."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

FORMATS = (torch.contiguous_format, torch.channels_last)
_SEED = 20_000_000
COUNT = 1 << 18
"""Number of fixed numbers."""
_MOST_NUMBERS = 1 << 14
"""Maximum number of compared values per tensor; another order of summation changes nearly all values."""


def network_operations(numbers: "Numbers") -> Iterator[tuple[str, Iterator[Tensor]]]:
    """Yield name and results of the operations of networks and their training."""
    for memory_format in FORMATS:
        name = str(memory_format).removeprefix("torch.")
        for convolution in CONVOLUTIONS:
            yield f"{convolution}, {name}", _convolved(convolution, numbers, memory_format)
        yield f"a training step of a block, {name}", _trained_block(numbers, memory_format)
        yield f"pooling, {name}", _pooled(numbers, memory_format)
    for images, features, labels in CLASSIFIERS:
        yield f"classifier {images} x {features} x {labels}", _classified(numbers, images, features, labels)


def other_operations(numbers: "Numbers") -> Iterator[tuple[str, Iterator[Tensor]]]:
    """Yield name and results of the operations of attacks and influence functions."""
    for name, compute in _OTHERS.items():
        yield name, compute(numbers)


class Convolution(NamedTuple):
    """A convolution without bias, padded to keep the size at stride 1."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    size: int
    """Input size in pixels per side."""
    images: int

    def __str__(self) -> str:
        return f"convolution {self.kernel} x {self.kernel} / {self.stride}, {self.inputs} to {self.outputs}"


def _stage(inputs: int, width: int, stride: int, out: int, images: int) -> Iterator[Convolution]:
    """Yield the convolutions of a bottleneck stage: those of its first block, then those of the other blocks."""
    size = out * stride
    yield Convolution(inputs, width, 1, 1, size, images)
    yield Convolution(width, width, 3, stride, size, images)
    yield Convolution(width, 4 * width, 1, 1, out, images)
    yield Convolution(inputs, 4 * width, 1, stride, size, images)
    yield Convolution(4 * width, width, 1, 1, out, images)
    yield Convolution(width, width, 3, 1, out, images)


def _network(stem_kernel: int, width: int, size: int, images: int) -> Iterator[Convolution]:
    """Yield all convolution shapes of a bottleneck network with four stages, on small inputs."""
    yield Convolution(3, width, stem_kernel, 2, 4 * size, images)
    inputs = width
    for stage in range(4):
        yield from _stage(inputs, width << stage, 1 if stage == 0 else 2, size, images)
        inputs = 4 * (width << stage)


_ALL = (*_network(3, 8, 4, 8), *_network(7, 64, 4, 1))
CONVOLUTIONS: tuple[Convolution, ...] = tuple({str(convolution): convolution for convolution in _ALL}.values())
"""The convolutions of the bundled miniature and of ResNet-50, without duplicates."""

CLASSIFIERS = ((128, 2048, 10), (37, 2048, 1000), (128, 256, 10), (7, 256, 10))
"""Images, features and labels of the probe's fully-connected layers."""


class Numbers:
    """Fixed numbers as tensors of any shape, created once and never modified."""

    _REPEATS = 10  # enough for the weights of the largest convolution

    def __init__(self, numbers: Tensor) -> None:
        self._numbers = numbers.repeat(self._REPEATS)

    def of(self, *shape: int, offset: int = 0, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
        """Return a tensor of a shape with the numbers from ``offset`` on, in memory order."""
        numbers = self._numbers[offset : offset + torch.Size(shape).numel()]
        if memory_format != torch.channels_last:
            return numbers.view(shape)
        images, channels, height, width = shape
        return numbers.view(images, height, width, channels).permute(0, 3, 1, 2)


def fixed_numbers(count: int) -> Tensor:
    """Return normally distributed numbers, the same at every call."""
    return torch.randn(count, generator=torch.Generator("cpu").manual_seed(_SEED))


def bits(*tensors: Tensor) -> str:
    """Return a digest of tensors' bits; large tensors are sampled at a fixed stride, in memory order."""
    hashed = hashlib.sha256()
    for tensor in tensors:
        values = tensor.detach()
        if values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last):
            values = values.permute(0, 2, 3, 1)
        values = values.flatten()
        if values.dtype is torch.bfloat16:  # numpy has no such type
            values = values.view(torch.int16)
        every = len(values) // _MOST_NUMBERS * 2 + 1  # odd, so that all lanes of a vector register are sampled
        hashed.update(values[::every].cpu().numpy().tobytes())
    return hashed.hexdigest()[:16]


def gradients(y: Tensor, upstream: Tensor, *of: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients with respect to ``of``, given the gradient ``upstream`` of ``y``.

    Passing ``upstream`` to autograd directly would import symbolic shapes, which takes 0.6 s.
    """
    return torch.autograd.grad((y * upstream).sum(), of)


def _convolved(shape: Convolution, numbers: Numbers, memory_format: torch.memory_format) -> Iterator[Tensor]:
    """Return the output of a convolution, and the gradients of its input and weights."""

    def of(*lengths: int, offset: int) -> Tensor:
        return numbers.of(*lengths, offset=offset, memory_format=memory_format)

    x = of(shape.images, shape.inputs, shape.size, shape.size, offset=3).requires_grad_()
    weight = of(shape.outputs, shape.inputs, shape.kernel, shape.kernel, offset=17).requires_grad_()
    y = nn.functional.conv2d(x, weight, stride=shape.stride, padding=shape.kernel // 2)
    return iter((y, *gradients(y, of(*y.shape, offset=31), x, weight)))


def _trained_block(numbers: Numbers, memory_format: torch.memory_format) -> Iterator[Tensor]:
    """Train a convolution with BatchNorm and ReLU for two SGD steps (momentum, weight decay), then evaluate it."""
    x = numbers.of(8, 16, 14, 14, offset=5, memory_format=memory_format)
    upstream = numbers.of(8, 24, 14, 14, offset=3, memory_format=memory_format)
    trained = [numbers.of(24, 16, 3, 3, memory_format=memory_format), numbers.of(24), numbers.of(24, offset=24)]
    trained = [parameter.clone().requires_grad_() for parameter in trained]
    momenta = [torch.zeros_like(parameter) for parameter in trained]
    mean, variance = numbers.of(24, offset=48).clone(), numbers.of(24, offset=72).abs()

    def forward(training: bool) -> Tensor:
        weight, scale, shift = trained
        y = nn.functional.conv2d(x, weight, padding=1)
        return nn.functional.batch_norm(y, mean, variance, scale, shift, training).relu()

    for _ in range(2):
        y = forward(training=True)
        yield y
        found = gradients(y, upstream, *trained)
        with torch.no_grad():
            for parameter, momentum, gradient in zip(trained, momenta, found, strict=True):
                momentum.mul_(0.9).add_(gradient.add(parameter, alpha=5e-4))
                parameter.add_(momentum, alpha=-0.1)
    yield from (forward(training=False), mean, variance, *trained)


def _pooled(numbers: Numbers, memory_format: torch.memory_format) -> Iterator[Tensor]:
    x = numbers.of(4, 64, 14, 14, memory_format=memory_format).requires_grad_()
    y = nn.functional.adaptive_avg_pool2d(nn.functional.max_pool2d(x, 3, 2, 1).relu(), 1)
    return iter((y, *gradients(y, numbers.of(*y.shape, offset=3), x)))


def _classified(numbers: Numbers, images: int, features: int, labels: int) -> Iterator[Tensor]:
    """Return logits, loss and gradients of a fully-connected layer."""
    x = numbers.of(images, features).requires_grad_()
    weight = numbers.of(labels, features, offset=11).requires_grad_()
    bias = numbers.of(labels, offset=13).requires_grad_()
    logits = nn.functional.linear(x, weight, bias)
    loss = nn.functional.cross_entropy(logits, torch.arange(images, device=x.device) % labels)
    return iter((logits, loss, *torch.autograd.grad(loss, (x, weight, bias))))


def _norms(numbers: Numbers) -> Iterator[Tensor]:
    """Compute norms of images, as in attacks in L2 balls."""
    x = numbers.of(4, 3, 32, 32)
    return iter((x.flatten(1).norm(dim=1), x.renorm(p=2, dim=0, maxnorm=1.0)))


def _transformed(numbers: Numbers) -> Iterator[Tensor]:
    """Compute Fourier transforms, as in attacks on frequencies."""
    spectrum = torch.fft.rfft2(numbers.of(2, 3, 32, 32), norm="ortho")
    return iter((torch.view_as_real(spectrum), torch.fft.irfft2(spectrum, s=(32, 32), norm="ortho")))


def _solved(numbers: Numbers) -> Iterator[Tensor]:
    """Compute products and inverses in double precision, as in influence functions."""
    x = numbers.of(96, 64).double()
    gram = x.T @ x / 96
    yield from (gram, x.softmax(1), torch.linalg.cholesky(gram), torch.linalg.pinv(gram, hermitian=True))


_OTHERS: Mapping[str, Callable[[Numbers], Iterator[Tensor]]] = {
    "norms": _norms,
    "Fourier transforms": _transformed,
    "double precision": _solved,
}
