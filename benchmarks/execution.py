"""What choices of execution cost, a training step and an evaluated batch: threads, memory format, compile, and filling
new tensors.

On the demo's network at 32 pixels and on ResNet-50 at 224, blocks 3, ``batch`` mode, random weights and images: how
long a step takes does not depend on them. Ratios are seconds over those of the defaults (one thread,
channels_last, not compiled), timed in turn in one process; a compiled step is timed after it was compiled. What runs
in one thread is timed in seconds of the processor, which others on the machine disturb little; two threads by the
clock.

And the share of the peak: floating-point operations of a default step and of an evaluated batch a second, over
those of a large float32 matrix product with the same number of threads.

Usage: python -m benchmarks.execution [--repetitions 9] [--architectures resnet35-w8 resnet50] [--no-compile]
"""

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from benchmarks.rows import Row, at_least, beside, report
from jobs import registry
from jobs.networks import BUILDERS, Network
from jobs.numerics import memory_format, numerics
from jobs.optimizers import sgd
from jobs.registry.costs import flops_evaluated_image, flops_trained_image
from jobs.specs import Recipe
from jobs.transfer import freeze

BLOCKS = 3
BATCH = {"resnet35-w8": 128, "resnet50": 8}
"""Images; a whole batch of ResNet-50 takes a CPU a minute."""
MATRIX = 2048
FILLING = 1.08
"""What leaving new tensors as they are saves a training step of the demo's network, at least."""


class Choice(NamedTuple):
    """One way to execute a recipe."""

    name: str
    recipe: Recipe
    compiled: bool = False
    filled: bool = False
    """Every new tensor is filled, as ``torch.use_deterministic_algorithms(True)`` alone does."""


class Timing(NamedTuple):
    """Seconds on the clock and of the processor."""

    wall: float
    cpu: float


DEFAULT = Choice("defaults", Recipe())
CHOICES = [
    Choice("2 threads", Recipe(threads=2)),
    Choice("contiguous", Recipe(memory_format="contiguous")),
    Choice("new tensors filled", Recipe(), filled=True),
    Choice("compiled", Recipe(), compiled=True),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--architectures", nargs="*", default=list(BATCH))
    parser.add_argument("--no-compile", action="store_true")
    given = parser.parse_args()
    choices = [choice for choice in CHOICES if not (choice.compiled and given.no_compile)]
    for architecture in given.architectures:
        report(_rows(architecture, choices, given.repetitions))


def _rows(architecture: str, choices: list[Choice], repetitions: int) -> list[Row]:
    works = [_works(architecture, choice) for choice in (DEFAULT, *choices)]
    seconds = [[[_seconds(work) for work in pair] for pair in works] for _ in range(repetitions)]
    product = _product()
    peaks = [MATRIX**3 * 2 / _seconds(product).cpu for _ in range(repetitions)]
    found = []
    for part, what in enumerate(("training step", "evaluated batch")):
        for place, choice in enumerate(choices, start=1):
            clock = "wall" if choice.recipe.threads > 1 else "cpu"
            ratios = [getattr(once[place][part], clock) / getattr(once[0][part], clock) for once in seconds]
            name = f"{architecture}, {what}: {choice.name} / defaults"
            saved = choice.filled and part == 0 and architecture == "resnet35-w8"
            found.append(at_least(name, ratios, FILLING) if saved else beside(name, ratios))
    flops = BATCH[architecture] * flops_trained_image(architecture, BLOCKS).total
    found.append(_share(f"{architecture}, training step", flops, [once[0][0].cpu for once in seconds], peaks))
    flops = BATCH[architecture] * flops_evaluated_image(architecture)
    found.append(_share(f"{architecture}, evaluated batch", flops, [once[0][1].cpu for once in seconds], peaks))
    return found


def _share(name: str, flops: float, seconds: list[float], peaks: list[float]) -> Row:
    ratios = [flops / each / peak for each, peak in zip(seconds, peaks, strict=True)]
    return beside(f"{name}: executed FLOP/s / matrix product's", ratios)


def _works(architecture: str, choice: Choice) -> tuple[Callable[[], None], Callable[[], None]]:
    """A training step and an evaluated batch, each run once to warm up."""
    recipe, size = choice.recipe, registry.architecture(architecture).image_size
    network = Network(BUILDERS[architecture](10), (0.5,) * 3, (0.25,) * 3)
    freeze(network, BLOCKS)
    form = memory_format(recipe)
    network = network.to(memory_format=form)
    optimizer = sgd(network, recipe)
    images_NCHW = torch.rand(BATCH[architecture], 3, size, size).contiguous(memory_format=form)
    labels_N = torch.randint(10, (len(images_NCHW),))
    model = torch.compile(network) if choice.compiled else network

    fill: Any = torch.utils.deterministic  # whose attribute its stubs leave out

    def step() -> None:
        with numerics(recipe):
            fill.fill_uninitialized_memory = choice.filled
            network.train()
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images_NCHW), labels_N).backward()  # type: ignore[no-untyped-call]  # torch gives it no types
            optimizer.step()

    def forward() -> None:
        with numerics(recipe), torch.no_grad():
            fill.fill_uninitialized_memory = choice.filled
            network.eval()
            model(images_NCHW)

    step()
    forward()
    return step, forward


def _product() -> Callable[[], None]:
    left, right = torch.rand(MATRIX, MATRIX), torch.rand(MATRIX, MATRIX)

    def multiply() -> None:
        with numerics(DEFAULT.recipe):
            left @ right

    multiply()
    return multiply


def _seconds(work: Callable[[], None]) -> Timing:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Timing(time.perf_counter() - wall, time.process_time() - cpu)


if __name__ == "__main__":
    main()
