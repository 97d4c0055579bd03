"""Cost of execution options per training step and evaluated batch.

The options are threads, memory format, compilation, and filling new tensors.

Runs the demo's network at 32 pixels and ResNet-50 at 224, with 3 blocks, ``batch`` mode, and random weights and images,
which do not affect the speed. Ratios are relative to the defaults (one thread, channels_last, not compiled), timed in
turn in one process, without the time to compile. Single-threaded steps are timed in CPU seconds, which other processes
on the machine hardly affect, and two threads in wall time.

Also reports the fraction of peak speed: FLOP/s of a default step and of an evaluated batch, over those of a large
float32 matrix product with the same number of threads.

Usage: python -m benchmarks.execution [--repetitions 9] [--architectures resnet35-w8 resnet50] [--no-compile]
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from benchmarks.rows import Row, at_least, beside, report
from jobs.catalog.catalog import PACKAGED
from jobs.catalog.costs import flops_evaluated_image, flops_trained_image
from jobs.execution.determinism import deterministic, memory_format
from jobs.execution.optimizers import make_optimizer
from jobs.kinds.finetune.transfer import freeze
from jobs.networks.builders import build
from jobs.networks.network import Network
from jobs.specs.recipes import Recipe

BLOCKS = 3
BATCH = {"resnet35-w8": 128, "resnet50": 8}
"""Images per batch. A full batch of ResNet-50 takes a minute on a CPU."""
MATRIX = 2048
FILLING = 1.08
"""Minimum speed-up of a training step of the demo's network when new tensors are not filled."""


class Choice(NamedTuple):
    """Options for executing a recipe."""

    name: str
    recipe: Recipe
    compiled: bool = False
    filled: bool = False
    """Whether every new tensor is filled, the default of ``torch.use_deterministic_algorithms(True)``."""


class Timing(NamedTuple):
    """Wall time and CPU time in seconds."""

    wall: float
    cpu: float


DEFAULT = Choice("defaults", Recipe())
CHOICES = [
    Choice("2 threads", Recipe(threads=2)),
    Choice("contiguous", Recipe(memory_format="contiguous")),
    Choice("new tensors filled", Recipe(), filled=True),
    Choice("bfloat16", Recipe(precision="bfloat16")),
    Choice("compiled blocks", Recipe(), compiled=True),
    Choice("bfloat16, compiled blocks", Recipe(precision="bfloat16"), compiled=True),
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
    flops = BATCH[architecture] * flops_trained_image(PACKAGED.architecture(architecture), BLOCKS).total
    found.append(_share(f"{architecture}, training step", flops, [once[0][0].cpu for once in seconds], peaks))
    flops = BATCH[architecture] * flops_evaluated_image(PACKAGED.architecture(architecture))
    found.append(_share(f"{architecture}, evaluated batch", flops, [once[0][1].cpu for once in seconds], peaks))
    return found


def _share(name: str, flops: float, seconds: list[float], peaks: list[float]) -> Row:
    ratios = [flops / each / peak for each, peak in zip(seconds, peaks, strict=True)]
    return beside(f"{name}: executed FLOP/s / matrix product's", ratios)


def _works(architecture: str, choice: Choice) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return a training step and an evaluation of a batch, each run once to warm up."""
    recipe, size = choice.recipe, PACKAGED.architecture(architecture).image_size
    network = Network(build(PACKAGED.architecture(architecture), 10), (0.5,) * 3, (0.25,) * 3)
    freeze(network, BLOCKS)
    form = memory_format(recipe)
    network = network.to(memory_format=form)
    network.precision = recipe.precision
    optimizer = make_optimizer(network, recipe)
    images_NCHW = torch.rand(BATCH[architecture], 3, size, size).contiguous(memory_format=form)
    labels_N = torch.randint(10, (len(images_NCHW),))
    if choice.compiled:  # each block alone, so that a bundle of any depths would run the same code
        for part in (network.stem, *network.blocks):
            part.compile()

    fill: Any = torch.utils.deterministic  # the stubs lack its attribute

    def step() -> None:
        with deterministic(recipe):
            fill.fill_uninitialized_memory = choice.filled
            network.train()
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images_NCHW), labels_N).backward()  # type: ignore[no-untyped-call]  # torch gives it no types
            optimizer.step()

    def forward() -> None:
        with deterministic(recipe), torch.no_grad():
            fill.fill_uninitialized_memory = choice.filled
            network.eval()
            network(images_NCHW)

    before = sum(os.times()[:4])
    step()
    forward()
    if choice.compiled:
        seconds = sum(os.times()[:4]) - before
        report([beside(f"{architecture}: {choice.name}, processor seconds of compiling, once a process", [seconds])])
    return step, forward


def _product() -> Callable[[], None]:
    left, right = torch.rand(MATRIX, MATRIX), torch.rand(MATRIX, MATRIX)

    def multiply() -> None:
        with deterministic(DEFAULT.recipe):
            left @ right

    multiply()
    return multiply


def _seconds(work: Callable[[], None]) -> Timing:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Timing(time.perf_counter() - wall, time.process_time() - cpu)


if __name__ == "__main__":
    main()
