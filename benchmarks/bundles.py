"""Speed-up from bundles: trials in one bundle vs the same trials one after another, in the same run.

The bundle is compared with B1 (``benchmarks.baselines.tune_program``) and with DeltaSweep's trials outside a bundle.
Times are CPU seconds from the first batch to the last evaluation, with images in memory and one thread: equal to wall
time on an idle machine, and barely affected by other processes on a busy one. Joining the bundle is included; loading
networks is not, for any of the three. ResNet-50 has random weights and images, with the same ratio of trained to
evaluated images as the paper's trials (1 : 6 at 100 images, 1 : 1.5 at 400). Operation counts alone give 2.08 and 1.91.
All three ways must give equal accuracies for each trial. Whatever runs first in a process is slightly faster, so the
order is rotated.

Usage: python -m benchmarks.bundles [REPETITIONS]
"""

import sys
import time
from collections.abc import Callable

import torch

from benchmarks.baselines import tune_program
from benchmarks.rows import Row, at_least, beside, report
from benchmarks.works import Work, resnet50, spec_of
from jobs.catalog.catalog import PACKAGED
from jobs.data.datasets import load_dataset
from jobs.kinds.finetune.bundle import Bundle
from jobs.kinds.finetune.trial import Finetuning
from jobs.models.weights import load_source
from jobs.specs.recipes import Recipe

CPU = torch.device("cpu")

Accuracies = list[list[tune_program.Measured]]
"""Accuracies of each trial after each evaluated epoch."""

Way = Callable[[Work], tuple[float, Accuracies]]
"""Runs all trials and returns CPU seconds and accuracies."""


def main(repetitions: int) -> None:
    resnet50_0139 = "bundle of blocks 0, 1, 3, 9, ResNet-50, {} images trained to {} evaluated"
    for trained, evaluated, target in ((8, 48, 2.1), (16, 24, 1.9)):
        report(_rows(resnet50_0139.format(trained, evaluated), resnet50(trained, evaluated), target, repetitions))
    report(_rows("bundle of blocks 0, 1, 3, the demo's network on 100 digits", _demo(), 1.3, repetitions))


def _demo() -> Work:
    """The demo's network, data and schedule at 100 images."""
    specs = [
        spec_of(blocks, "fmnist_natural", "digits", images=100, epochs=30, recipe=Recipe()) for blocks in (0, 1, 3)
    ]
    return Work(specs, load_source(PACKAGED.source("fmnist_natural")), load_dataset(PACKAGED.dataset("digits"), 32))


def _rows(name: str, work: Work, target: float, repetitions: int) -> list[Row]:
    """Return the ratios of the seconds of separate trials to those of the bundle, one per repetition."""
    seconds = [_measure(work, repetition % len(WAYS)) for repetition in range(repetitions)]
    return [
        at_least(f"{name}: B1 / it", [each[b1] / each[together] for each in seconds], target),
        beside(f"{name}: DeltaSweep without bundles / it", [each[_alone] / each[together] for each in seconds]),
    ]


def _measure(work: Work, first: int) -> dict[Way, float]:
    """Return the CPU seconds of each way.

    Args:
        first: Index of the way that runs first.

    Raises:
        RuntimeError: If the accuracies differ.
    """
    found = {way: way(work) for way in (*WAYS[first:], *WAYS[:first])}
    if len({str(accuracies) for _, accuracies in found.values()}) > 1:
        raise RuntimeError(f"accuracies differ: {[accuracies for _, accuracies in found.values()]}")
    return {way: seconds for way, (seconds, _) in found.items()}


def b1(work: Work) -> tuple[float, Accuracies]:
    networks = [tune_program.network(spec, work.weights.tensors) for spec in work.specs]
    started = time.process_time()
    found = [tune_program.train(s, work.data, *n) for s, n in zip(work.specs, networks, strict=True)]
    return time.process_time() - started, found


def _alone(work: Work) -> tuple[float, Accuracies]:
    trials = _trials(work)
    started = time.process_time()
    for trial in trials:
        trial.advance()
    return time.process_time() - started, [_measured(trial) for trial in trials]


def together(work: Work) -> tuple[float, Accuracies]:
    trials = _trials(work)
    started = time.process_time()
    first, *others = (Bundle(trial, _failed) for trial in trials)
    if not all(first.join(other) for other in others):
        raise RuntimeError("the trials did not join the bundle")
    first.advance()
    return time.process_time() - started, [_measured(trial) for trial in trials]


def _trials(work: Work) -> list[Finetuning]:
    return [Finetuning(spec, work.weights, work.data, CPU) for spec in work.specs]


def _measured(trial: Finetuning) -> list[tune_program.Measured]:
    return [tune_program.Measured(row.epoch, row.train_accuracy, row.test_accuracy) for row in trial.evaluations]


def _failed(trial: Finetuning, error: Exception) -> None:
    raise RuntimeError(f"{trial.spec.trial_id} failed") from error


WAYS: tuple[Way, ...] = (b1, _alone, together)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
