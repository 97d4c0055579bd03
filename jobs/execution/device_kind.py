"""The device kind on which numbers are reproducible, determined by a probe computation.

The instruction set does not determine which bits a processor computes: libraries also choose code by vendor, model and
caches. Therefore a fixed probe runs the operations of trials, and a digest of its bits is part of the device kind.
Operations that only some trials have (``OPERATIONS``) are computed for these alone, each with a digest of its own.
"""

import hashlib
import math
import platform
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jobs.execution.determinism import deterministic
from jobs.provenance import THEN
from jobs.specs.optimizers import Execution

PROBE_VERSION = 1
"""Raised whenever the probe computes something else; digests of two versions are not comparable."""

_FORMATS = (torch.contiguous_format, torch.channels_last)
_SEED = 20_000_000
_COUNT = 1 << 18
"""Number of fixed numbers."""
_MOST_NUMBERS = 1 << 14
"""Maximum number of compared values per tensor; another order of summation changes nearly all values."""


def device_kind(device: torch.device, execution: Execution, operations: Sequence[str] = ()) -> str:
    """Return the device kind on which a recipe's numbers are reproducible: equal names mean equal bits.

    Example: ``AMD EPYC (AuthenticAMD family 25 model 1), avx2 (probe 1: 8be921f1e88d)``. For a GPU, its name and digest
    come first. The CPU is always included, because fresh layers and noise are drawn on it.

    Args:
        operations: names in ``OPERATIONS``: what the trial computes beyond the probe. Their digests follow that of the
            probe, in order of their names: ``(probe 1: 8be921f1e88d, adamw 1: 0d2ce4f31a05)``.

    Two machines have the same device kind only if the probe gives equal bits on both, with the recipe's precision and
    threads. Vendor, family and model are included for readability, and because no probe covers everything. The result
    is computed once per process.
    """
    # the only fields that change the probe's bits; the digest covers both memory formats
    arithmetic = Execution(threads=execution.threads, tf32=execution.tf32, precision=execution.precision)
    kinds = []
    for each in dict.fromkeys([device, torch.device("cpu")]):
        digests = [_digest(each, arithmetic), *(_digest_of(name, each, arithmetic) for name in sorted(operations))]
        kinds.append(f"{device_name(each)} ({', '.join(digests)})")
    return ", ".join(kinds)


@lru_cache(maxsize=64)
def _digest(device: torch.device, execution: Execution) -> str:
    hashed = hashlib.sha256(repr(list(probe(device, execution).items())).encode()).hexdigest()
    return f"probe {PROBE_VERSION}: {hashed[:12]}"


@lru_cache(maxsize=64)
def _digest_of(name: str, device: torch.device, execution: Execution) -> str:
    operation = OPERATIONS[name]
    with _probing(execution):
        bits = _bits(*operation.compute(_Numbers(fixed_numbers(_COUNT).to(device))))
    return f"{name} {operation.version}: {bits[:12]}"


def device_name(device: torch.device) -> str:
    """Return vendor, model and instruction set of a device, as far as the system reports them; nothing is computed."""
    if device.type == "cpu":
        return f"{cpu_name(_told_by_linux())}, {torch.backends.cpu.get_cpu_capability().lower()}"
    major, minor = torch.cuda.get_device_capability(device)
    return f"{torch.cuda.get_device_name(device)}, sm_{major}{minor}"


def probe(device: torch.device, execution: Execution) -> dict[str, str]:
    """Run the operations of trials on fixed numbers and return a digest of the resulting bits per operation.

    The state of the process is left unchanged.
    """
    found: dict[str, str] = {}
    with _probing(execution):
        drawn = fixed_numbers(_COUNT)
        found["normal numbers"] = _bits(drawn, fixed_numbers(7))  # torch uses other code to draw few numbers
        numbers = _Numbers(drawn.to(device))
        for memory_format in _FORMATS:
            name = str(memory_format).removeprefix("torch.")
            for convolution in CONVOLUTIONS:
                found[f"{convolution}, {name}"] = _bits(*_convolved(convolution, numbers, memory_format))
            found[f"a training step of a block, {name}"] = _bits(*_trained_block(numbers, memory_format))
            found[f"pooling, {name}"] = _bits(*_pooled(numbers, memory_format))
        for images, features, labels in CLASSIFIERS:
            found[f"classifier {images} x {features} x {labels}"] = _bits(
                *_classified(numbers, images, features, labels)
            )
        for operation, compute in _OTHERS.items():
            found[operation] = _bits(*compute(numbers))
    return found


@contextmanager
def _probing(execution: Execution) -> Iterator[None]:
    with deterministic(execution), torch.random.fork_rng(devices=[]), torch.enable_grad():
        yield


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


class _Numbers:
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


def _bits(*tensors: Tensor) -> str:
    """Return a digest of tensors' bits; large tensors are sampled at a fixed stride, in memory order."""
    hashed = hashlib.sha256()
    for tensor in tensors:
        values = tensor.detach()
        if values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last):
            values = values.permute(0, 2, 3, 1)
        values = values.flatten()
        every = len(values) // _MOST_NUMBERS * 2 + 1  # odd, so that all lanes of a vector register are sampled
        hashed.update(values[::every].cpu().numpy().tobytes())
    return hashed.hexdigest()[:16]


def _gradients(y: Tensor, upstream: Tensor, *of: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients with respect to ``of``, given the gradient ``upstream`` of ``y``.

    Passing ``upstream`` to autograd directly would import symbolic shapes, which takes 0.6 s.
    """
    return torch.autograd.grad((y * upstream).sum(), of)


def _convolved(shape: Convolution, numbers: _Numbers, memory_format: torch.memory_format) -> Iterator[Tensor]:
    """Return the output of a convolution, and the gradients of its input and weights."""

    def of(*lengths: int, offset: int) -> Tensor:
        return numbers.of(*lengths, offset=offset, memory_format=memory_format)

    x = of(shape.images, shape.inputs, shape.size, shape.size, offset=3).requires_grad_()
    weight = of(shape.outputs, shape.inputs, shape.kernel, shape.kernel, offset=17).requires_grad_()
    y = nn.functional.conv2d(x, weight, stride=shape.stride, padding=shape.kernel // 2)
    return iter((y, *_gradients(y, of(*y.shape, offset=31), x, weight)))


def _trained_block(numbers: _Numbers, memory_format: torch.memory_format) -> Iterator[Tensor]:
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
        gradients = _gradients(y, upstream, *trained)
        with torch.no_grad():
            for parameter, momentum, gradient in zip(trained, momenta, gradients, strict=True):
                momentum.mul_(0.9).add_(gradient.add(parameter, alpha=5e-4))
                parameter.add_(momentum, alpha=-0.1)
    yield from (forward(training=False), mean, variance, *trained)


def _pooled(numbers: _Numbers, memory_format: torch.memory_format) -> Iterator[Tensor]:
    x = numbers.of(4, 64, 14, 14, memory_format=memory_format).requires_grad_()
    y = nn.functional.adaptive_avg_pool2d(nn.functional.max_pool2d(x, 3, 2, 1).relu(), 1)
    return iter((y, *_gradients(y, numbers.of(*y.shape, offset=3), x)))


def _classified(numbers: _Numbers, images: int, features: int, labels: int) -> Iterator[Tensor]:
    """Return logits, loss and gradients of a fully-connected layer."""
    x = numbers.of(images, features).requires_grad_()
    weight = numbers.of(labels, features, offset=11).requires_grad_()
    bias = numbers.of(labels, offset=13).requires_grad_()
    logits = nn.functional.linear(x, weight, bias)
    loss = nn.functional.cross_entropy(logits, torch.arange(images, device=x.device) % labels)
    return iter((logits, loss, *torch.autograd.grad(loss, (x, weight, bias))))


def _norms(numbers: _Numbers) -> Iterator[Tensor]:
    """Compute norms of images, as in attacks in L2 balls."""
    x = numbers.of(4, 3, 32, 32)
    return iter((x.flatten(1).norm(dim=1), x.renorm(p=2, dim=0, maxnorm=1.0)))


def _transformed(numbers: _Numbers) -> Iterator[Tensor]:
    """Compute Fourier transforms, as in attacks on frequencies."""
    spectrum = torch.fft.rfft2(numbers.of(2, 3, 32, 32), norm="ortho")
    return iter((torch.view_as_real(spectrum), torch.fft.irfft2(spectrum, s=(32, 32), norm="ortho")))


def _solved(numbers: _Numbers) -> Iterator[Tensor]:
    """Compute products and inverses in double precision, as in influence functions."""
    x = numbers.of(96, 64).double()
    gram = x.T @ x / 96
    yield from (gram, x.softmax(1), torch.linalg.cholesky(gram), torch.linalg.pinv(gram, hermitian=True))


_OTHERS: Mapping[str, Callable[[_Numbers], Iterator[Tensor]]] = {
    "norms": _norms,
    "Fourier transforms": _transformed,
    "double precision": _solved,
}


def _stepped_by_adamw(numbers: _Numbers) -> Iterator[Tensor]:
    """Take steps with AdamW, in both memory formats and on few and on many numbers."""
    for memory_format in _FORMATS:
        trained = [
            numbers.of(24, 16, 3, 3, memory_format=memory_format),
            numbers.of(2048, 10, offset=5),
            numbers.of(7, offset=3),
        ]
        trained = [parameter.clone().requires_grad_() for parameter in trained]
        optimizer = torch.optim.AdamW(trained, lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05)
        for step in range(4):
            for parameter in trained:
                gradients = numbers.of(parameter.numel(), offset=11 + step)
                parameter.grad = torch.empty_like(parameter).copy_(gradients.view(parameter.shape))
            optimizer.param_groups[0]["lr"] = 0.01 / (1 + step)
            optimizer.step()
            yield from (parameter.detach().clone() for parameter in trained)


def _cosines(numbers: _Numbers) -> Iterator[Tensor]:
    """Compute learning rates of the schedule ``cosine``: the C library's cosines, on the CPU."""
    for epochs in (7, 30, 100, 150, 1000):
        yield torch.tensor([math.cos(math.pi * epoch / epochs) for epoch in range(epochs)], dtype=torch.float64)


def _grouped(numbers: _Numbers) -> Iterator[Tensor]:
    """Compute convolutions whose channels are divided into groups, down to one channel per group."""
    for channels, groups, kernel in ((96, 96, 7), (32, 32, 3), (64, 16, 3)):
        for memory_format in _FORMATS:
            x = numbers.of(4, channels, 14, 14, offset=3, memory_format=memory_format).requires_grad_()
            weight = numbers.of(channels, channels // groups, kernel, kernel, offset=17).requires_grad_()
            y = nn.functional.conv2d(x, weight, padding=kernel // 2, groups=groups)
            yield from (y, *_gradients(y, numbers.of(*y.shape, offset=31, memory_format=memory_format), x, weight))


def _smooth(numbers: _Numbers) -> Iterator[Tensor]:
    """Compute activations that are made of exponential and error functions."""
    for activation in (
        nn.functional.gelu,
        lambda x: nn.functional.gelu(x, approximate="tanh"),
        nn.functional.silu,
        nn.functional.hardswish,
        torch.sigmoid,
    ):
        x = numbers.of(37, 1031, offset=3).requires_grad_()
        y = activation(x)
        yield from (y, *_gradients(y, numbers.of(*y.shape, offset=31), x))


def _layer_normed(numbers: _Numbers) -> Iterator[Tensor]:
    for images, tokens, width in ((4, 50, 192), (8, 1, 768), (2, 17, 1003)):
        x = numbers.of(images, tokens, width, offset=3).requires_grad_()
        scale, shift = numbers.of(width, offset=5).requires_grad_(), numbers.of(width, offset=7).requires_grad_()
        y = nn.functional.layer_norm(x, (width,), scale, shift)
        yield from (y, *_gradients(y, numbers.of(*y.shape, offset=31), x, scale, shift))


def _attended(numbers: _Numbers) -> Iterator[Tensor]:
    """Compute attention as trials do (``jobs.networks.arithmetic``)."""
    for images, heads, tokens, width in ((4, 3, 50, 64), (2, 6, 65, 32), (1, 4, 197, 64)):
        q, k, v = (numbers.of(images, heads, tokens, width, offset=offset).requires_grad_() for offset in (3, 5, 7))
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        yield from (y, *_gradients(y, numbers.of(*y.shape, offset=31), q, k, v))


class Operation(NamedTuple):
    """An operation that only some trials have."""

    version: int
    """Raised whenever it computes something else; digests of two versions are not comparable."""
    compute: Callable[[_Numbers], Iterator[Tensor]]


OPERATIONS: Mapping[str, Operation] = {
    "adamw": Operation(1, _stepped_by_adamw),
    "attention": Operation(1, _attended),
    "cosine": Operation(1, _cosines),
    "grouped-convolution": Operation(1, _grouped),
    "layer-norm": Operation(1, _layer_normed),
    "smooth-activation": Operation(1, _smooth),
}
"""What trials compute beyond the probe, by the names in ``Execution.operations`` and ``Network.operations``. An
addition here changes no device kind of a trial that does not name it.
"""


def cpu_name(told: Mapping[str, str]) -> str:
    """Return a readable name of a processor: model, vendor and family.

    Args:
        told: fields of ``/proc/cpuinfo``; empty where there is none.
    """
    machine = platform.processor() or platform.machine()
    if "cpu family" in told:
        model = re.sub(r"\((R|TM)\)|@.*", " ", told.get("model name", machine))
        parts = (told.get("vendor_id", "?"), "family", told["cpu family"], "model", told.get("model", "?"))
        name = f"{model} ({' '.join(parts)})"
    elif "CPU part" in told:
        name = f"{machine} (implementer {told.get('CPU implementer', '?')} part {told['CPU part']})"
    else:
        name = _told_by_macos() or machine
    return " ".join(name.replace(THEN.strip(), "-").split())


def _told_by_linux() -> dict[str, str]:
    """Return the fields of the first processor in ``/proc/cpuinfo``; empty on other systems than Linux."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def _told_by_macos() -> str:
    """Return the processor's name; empty on other systems than macOS."""
    if platform.system() != "Darwin":
        return ""
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
