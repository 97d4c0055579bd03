"""The kind of device that a number is reproducible on, found out by computing.

An instruction set does not say which bits a processor computes: libraries choose their code by vendor, model and
caches, too. So a fixed probe runs what trials consist of, and a digest of its bits is part of the kind's name.
"""

import hashlib
import platform
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jobs.numerics import numerics
from jobs.provenance import THEN
from jobs.specs import Execution

PROBE_VERSION = 1
"""Raised whenever the probe computes anything else; digests of two versions cannot be compared."""

_FORMATS = (torch.contiguous_format, torch.channels_last)
_SEED = 20_000_000
_MOST_NUMBERS = 1 << 14
"""Of each tensor whose bits are compared: another order of sums shows in nearly all of them."""


def device_kind(device: torch.device, execution: Execution) -> str:
    """The kind of machine on which a recipe's numbers are reproducible: equal names, equal bits.

    ``AMD EPYC (AuthenticAMD family 25 model 1), avx2 (probe 1: 8be921f1e88d)``. Of a GPU, its name and a digest of its
    own come first; the CPU counts, too: fresh layers and noise are drawn there.

    The vendor, family and model are in the name for people, and because no probe runs everything. Two machines have
    one kind only if the probe gives equal bits on both, in the recipe's precision and threads. It is asked once a
    process.
    """
    # what alone changes bits of the probe; the digest covers both memory formats
    return _device_kind(
        device, Execution(threads=execution.threads, tf32=execution.tf32, precision=execution.precision)
    )


@lru_cache(maxsize=64)
def _device_kind(device: torch.device, execution: Execution) -> str:
    devices = dict.fromkeys([device, torch.device("cpu")])
    return ", ".join(f"{device_name(each)} ({_digest(each, execution)})" for each in devices)


def _digest(device: torch.device, execution: Execution) -> str:
    hashed = hashlib.sha256(repr(list(probe(device, execution).items())).encode()).hexdigest()
    return f"probe {PROBE_VERSION}: {hashed[:12]}"


def device_name(device: torch.device) -> str:
    """Vendor, model and instruction set of a device, as far as the system tells; nothing is computed."""
    if device.type == "cpu":
        return f"{cpu_name(_told_by_linux())}, {torch.backends.cpu.get_cpu_capability().lower()}"
    major, minor = torch.cuda.get_device_capability(device)
    return f"{torch.cuda.get_device_name(device)}, sm_{major}{minor}"


def probe(device: torch.device, execution: Execution) -> dict[str, str]:
    """Digests of the bits of what the operations of trials compute from fixed numbers, by operation.

    No state of the process is left changed.
    """
    found: dict[str, str] = {}
    with numerics(execution), torch.random.fork_rng(devices=[]), torch.enable_grad():
        drawn = fixed_numbers(1 << 18)
        found["normal numbers"] = _bits(drawn, fixed_numbers(7))  # so few are drawn in another way
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


class Convolution(NamedTuple):
    """A convolution without bias, padded to keep the size at stride 1."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    size: int
    """Pixels a side of what it takes."""
    images: int

    def __str__(self) -> str:
        return f"convolution {self.kernel} x {self.kernel} / {self.stride}, {self.inputs} to {self.outputs}"


def _stage(inputs: int, width: int, stride: int, out: int, images: int) -> Iterator[Convolution]:
    """The convolutions of a bottleneck stage: those of its first block and of the others."""
    size = out * stride
    yield Convolution(inputs, width, 1, 1, size, images)
    yield Convolution(width, width, 3, stride, size, images)
    yield Convolution(width, 4 * width, 1, 1, out, images)
    yield Convolution(inputs, 4 * width, 1, stride, size, images)
    yield Convolution(4 * width, width, 1, 1, out, images)
    yield Convolution(width, width, 3, 1, out, images)


def _network(stem_kernel: int, width: int, size: int, images: int) -> Iterator[Convolution]:
    """All shapes of the convolutions of a bottleneck network with four stages, on few pixels."""
    yield Convolution(3, width, stem_kernel, 2, 4 * size, images)
    inputs = width
    for stage in range(4):
        yield from _stage(inputs, width << stage, 1 if stage == 0 else 2, size, images)
        inputs = 4 * (width << stage)


_ALL = (*_network(3, 8, 4, 8), *_network(7, 64, 4, 1))
CONVOLUTIONS: tuple[Convolution, ...] = tuple({str(convolution): convolution for convolution in _ALL}.values())
"""Those of the bundled miniature and of ResNet-50, each once."""

CLASSIFIERS = ((128, 2048, 10), (37, 2048, 1000), (128, 256, 10), (7, 256, 10))
"""Images, features and labels of fully-connected layers."""


class _Numbers:
    """Fixed numbers as tensors of any shape, made once and never written to."""

    _REPEATS = 10  # more than the weights of the largest convolution

    def __init__(self, numbers: Tensor) -> None:
        self._numbers = numbers.repeat(self._REPEATS)

    def of(self, *shape: int, offset: int = 0, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
        """A tensor of a shape: the numbers from ``offset`` on, as they lie in memory."""
        numbers = self._numbers[offset : offset + torch.Size(shape).numel()]
        if memory_format != torch.channels_last:
            return numbers.view(shape)
        images, channels, height, width = shape
        return numbers.view(images, height, width, channels).permute(0, 3, 1, 2)


def fixed_numbers(count: int) -> Tensor:
    """Normal numbers, the same at every call."""
    return torch.randn(count, generator=torch.Generator("cpu").manual_seed(_SEED))


def _bits(*tensors: Tensor) -> str:
    """A digest of the bits of tensors; of large ones, of every so many of their numbers, as these lie in memory."""
    hashed = hashlib.sha256()
    for tensor in tensors:
        values = tensor.detach()
        if values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last):
            values = values.permute(0, 2, 3, 1)
        values = values.flatten()
        every = len(values) // _MOST_NUMBERS * 2 + 1  # odd: all places of a vector register come up
        hashed.update(values[::every].cpu().numpy().tobytes())
    return hashed.hexdigest()[:16]


def _gradients(y: Tensor, upstream: Tensor, *of: Tensor) -> tuple[Tensor, ...]:
    """Gradients for this one of ``y``. (Handed over as it is, autograd imports 0.6 s of symbolic shapes for it.)"""
    return torch.autograd.grad((y * upstream).sum(), of)


def _convolved(shape: Convolution, numbers: _Numbers, memory_format: torch.memory_format) -> Iterator[Tensor]:
    """What comes out, and the gradients of what goes in and of the weights."""

    def of(*lengths: int, offset: int) -> Tensor:
        return numbers.of(*lengths, offset=offset, memory_format=memory_format)

    x = of(shape.images, shape.inputs, shape.size, shape.size, offset=3).requires_grad_()
    weight = of(shape.outputs, shape.inputs, shape.kernel, shape.kernel, offset=17).requires_grad_()
    y = nn.functional.conv2d(x, weight, stride=shape.stride, padding=shape.kernel // 2)
    return iter((y, *_gradients(y, of(*y.shape, offset=31), x, weight)))


def _trained_block(numbers: _Numbers, memory_format: torch.memory_format) -> Iterator[Tensor]:
    """A convolution with BatchNorm and ReLU, twice trained by SGD with momentum and decay, then in evaluation mode."""
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
    """Logits, loss and gradients of a fully-connected layer."""
    x = numbers.of(images, features).requires_grad_()
    weight = numbers.of(labels, features, offset=11).requires_grad_()
    bias = numbers.of(labels, offset=13).requires_grad_()
    logits = nn.functional.linear(x, weight, bias)
    loss = nn.functional.cross_entropy(logits, torch.arange(images, device=x.device) % labels)
    return iter((logits, loss, *torch.autograd.grad(loss, (x, weight, bias))))


def _norms(numbers: _Numbers) -> Iterator[Tensor]:
    """Of images, as attacks in L2 balls take them."""
    x = numbers.of(4, 3, 32, 32)
    return iter((x.flatten(1).norm(dim=1), x.renorm(p=2, dim=0, maxnorm=1.0)))


def _transformed(numbers: _Numbers) -> Iterator[Tensor]:
    """By Fourier, as attacks on frequencies do."""
    spectrum = torch.fft.rfft2(numbers.of(2, 3, 32, 32), norm="ortho")
    return iter((torch.view_as_real(spectrum), torch.fft.irfft2(spectrum, s=(32, 32), norm="ortho")))


def _solved(numbers: _Numbers) -> Iterator[Tensor]:
    """Products and inverses in double precision, as influence takes them."""
    x = numbers.of(96, 64).double()
    gram = x.T @ x / 96
    yield from (gram, x.softmax(1), torch.linalg.cholesky(gram), torch.linalg.pinv(gram, hermitian=True))


_OTHERS: Mapping[str, Callable[[_Numbers], Iterator[Tensor]]] = {
    "norms": _norms,
    "Fourier transforms": _transformed,
    "double precision": _solved,
}


def cpu_name(told: Mapping[str, str]) -> str:
    """Model, vendor and family of a processor, in words that a person recognises.

    Args:
        told: what ``/proc/cpuinfo`` says of it; empty where there is none.
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
    """What Linux says of its first processor; nothing elsewhere."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def _told_by_macos() -> str:
    """The processor's name; empty elsewhere."""
    if platform.system() != "Darwin":
        return ""
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
