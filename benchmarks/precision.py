"""What the choices of the recipe ``fast`` save: bfloat16, folded evaluation and bundles, in the same run.

Times are CPU seconds with one thread, images in memory, loading not included (as in ``benchmarks.bundles``, whose
trials these are: ResNet-50 with random weights, one image trained to six evaluated). B1 is
``benchmarks.baselines.tune_program``. Augmentation, which all sides would share, is left out. The order is rotated.
Weights are folded once an evaluation, within its time: of 32 images by ResNet-50, the least favourable case, and of the
demo's test images by its network.

A processor without units for bfloat16 (AVX512_BF16, AMX) emulates it, and is slower than in float32.

Usage: python -m benchmarks.precision [REPETITIONS]
"""

import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks.bundles import b1, together
from benchmarks.rows import Row, at_least, report
from benchmarks.works import LABELS, resnet50
from jobs.catalog.catalog import PACKAGED
from jobs.data.datasets import load_dataset
from jobs.execution.determinism import deterministic, memory_format
from jobs.execution.metrics import evaluate
from jobs.networks.builders import build
from jobs.networks.folding import Fold
from jobs.networks.network import Network
from jobs.specs.optimizers import Precision
from jobs.specs.recipes import Recipe

TRAINED, EVALUATED = 8, 48
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


def main(repetitions: int) -> None:
    images_NCHW = torch.rand((32, 3, 224, 224))
    digits = load_dataset(PACKAGED.dataset("digits"), 32).test
    digits_NCHW = (digits.images_NCHW[torch.arange(len(digits.labels_N))].float() / 255).expand(-1, 3, -1, -1)
    report([_folded_row("resnet50", images_NCHW, precision, repetitions) for precision in PRECISIONS])
    report([_folded_row("resnet35-w8", digits_NCHW, precision, repetitions) for precision in PRECISIONS])
    report(_bundle_rows(repetitions))


def _bundle_rows(repetitions: int) -> list[Row]:
    halved = {"precision": "bfloat16"}
    fast = {**halved, "evaluation": "folded"}
    ways = {
        "B1 in float32": lambda: b1(resnet50(TRAINED, EVALUATED))[0],
        "B1 in bfloat16": lambda: b1(resnet50(TRAINED, EVALUATED, halved))[0],
        "bundle in float32": lambda: together(resnet50(TRAINED, EVALUATED))[0],
        "bundle in bfloat16": lambda: together(resnet50(TRAINED, EVALUATED, halved))[0],
        "fast bundle": lambda: together(resnet50(TRAINED, EVALUATED, fast))[0],
    }
    seconds = [_in_turn(ways, repetition) for repetition in range(repetitions)]
    what = f"blocks 0, 1, 3, 9 of ResNet-50, {TRAINED} images trained to {EVALUATED} evaluated"
    return [
        at_least(f"{what}: {slow} / {quick}", [each[slow] / each[quick] for each in seconds], target)
        for slow, quick, target in (
            ("bundle in float32", "bundle in bfloat16", 2.2),
            ("B1 in float32", "fast bundle", 5),
            ("B1 in bfloat16", "fast bundle", 2.1),
        )
    ]


def _folded_row(architecture: str, images_NCHW: Tensor, precision: Precision, repetitions: int) -> Row:
    recipe = Recipe(precision=precision)
    form = memory_format(recipe)
    network = Network(build(PACKAGED.architecture(architecture), LABELS), (0.5,) * 3, (0.25,) * 3)
    network.eval().to(memory_format=form)
    network.precision = precision
    batches = torch.split(images_NCHW.contiguous(memory_format=form), recipe.evaluation_batch_size)
    labelled = [(batch, torch.zeros(len(batch), dtype=torch.int64)) for batch in batches]

    def evaluation(folds: Sequence[Fold]) -> Callable[[], float]:
        return lambda: _seconds(lambda: evaluate(network, iter(labelled), folds=folds))

    with deterministic(recipe):
        ways = {"plain": evaluation(()), "folded": evaluation(network.folds(batches[0][:1]))}
        _in_turn(ways, 0)
        seconds = [_in_turn(ways, repetition) for repetition in range(3 * repetitions)]
    ratios = [each["plain"] / each["folded"] for each in seconds]
    return at_least(
        f"{architecture}, {len(images_NCHW)} images in {precision}: plain / folded evaluation", ratios, 1.15
    )


def _in_turn(ways: dict[str, Callable[[], float]], first: int) -> dict[str, float]:
    """Return the seconds of each way; another one runs first each time."""
    names = list(ways)
    first %= len(names)
    return {name: ways[name]() for name in (*names[first:], *names[:first])}


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
