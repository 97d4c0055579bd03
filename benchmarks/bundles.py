"""What bundles save: the same trials one after another over all of them in one bundle, side by side in one run.

Counted are the processor's seconds from the first batch to the last evaluation, with images in memory and one thread:
on an idle machine those of the clock, and not spoilt by what else runs on a busy one. Joining the bundle is counted
in. Images are random bytes for ResNet-50, in numbers that keep the ratio of trained to evaluated images of the
paper's trials (1 : 6 at 100 images, 1 : 1.5 at 400): its operations alone give 2.08 and 1.91.
The numbers of every trial must be equal on both sides.

Usage: python -m benchmarks.bundles [REPETITIONS]
"""

import sys
import time
from collections.abc import Callable, Sequence

import torch

from benchmarks.rows import Row, at_least, report
from jobs.bundle import Bundle
from jobs.data.datasets import Dataset, ImageSet, load_dataset
from jobs.finetune import Evaluation, Finetuning
from jobs.specs import FinetuneSpec, Recipe
from jobs.weights import SourceWeights, load_source

CPU = torch.device("cpu")
LABELS = 10


def main(repetitions: int) -> None:
    report([resnet50(8, 48, 2.1, repetitions), resnet50(16, 24, 1.9, repetitions), demo(1.3, repetitions)])


def resnet50(trained: int, evaluated: int, target: float, repetitions: int) -> Row:
    """Random weights at 224 pixels; one epoch of one batch, then an evaluation."""
    data = Dataset("mnist", _images(trained), _images(evaluated), "random bytes")
    recipe = Recipe(batch_size=trained, evaluation_batch_size=evaluated)
    specs = [_spec(blocks, "random_init", "mnist", images=trained, epochs=1, recipe=recipe) for blocks in (0, 1, 3, 9)]
    name = f"bundle of blocks 0, 1, 3, 9, ResNet-50, {trained} images trained to {evaluated} evaluated"
    return at_least(name, _ratios(specs, load_source("random_init"), data, repetitions), target)


def demo(target: float, repetitions: int) -> Row:
    """The demo's network, data and schedule at 100 images."""
    specs = [_spec(blocks, "fmnist_natural", "digits", images=100, epochs=30, recipe=Recipe()) for blocks in (0, 1, 3)]
    ratios = _ratios(specs, load_source("fmnist_natural"), load_dataset("digits", 32), repetitions)
    return at_least("bundle of blocks 0, 1, 3, the demo's network on 100 digits", ratios, target)


def _spec(blocks: int, source: str, dataset: str, *, images: int, epochs: int, recipe: Recipe) -> FinetuneSpec:
    return FinetuneSpec(
        source=source,
        dataset=dataset,
        blocks=blocks,
        images=images,
        seed=20_000_000,
        epochs=epochs,
        evaluate_every=5,
        recipe=recipe,
    )


def _images(count: int) -> ImageSet:
    rng = torch.Generator().manual_seed(count)
    images_NCHW = torch.randint(256, (count, 1, 224, 224), dtype=torch.uint8, generator=rng)
    return ImageSet(images_NCHW, torch.arange(count) % LABELS)


def _ratios(specs: Sequence[FinetuneSpec], weights: SourceWeights, data: Dataset, repetitions: int) -> list[float]:
    """Seconds of the trials one after another over those of the bundle, once a repetition."""

    def alone() -> list[list[Evaluation]]:
        for trial in trials:
            trial.advance()
        return [trial.evaluations for trial in trials]

    def together() -> list[list[Evaluation]]:
        first, *others = (Bundle(trial, _failed) for trial in trials)
        if not all(first.join(other) for other in others):
            raise RuntimeError("the trials do not share")
        first.advance()
        return [trial.evaluations for trial in trials]

    ratios, found = [], []
    for _ in range(repetitions):
        seconds = []
        for way in (alone, together):
            trials = [Finetuning(spec, weights, data, CPU) for spec in specs]
            seconds.append(_seconds(way, found))
        ratios.append(seconds[0] / seconds[1])
    if any(rows != found[0] for rows in found):
        raise RuntimeError("a trial's numbers differ between the two ways")
    return ratios


def _seconds(run: Callable[[], list[list[Evaluation]]], found: list[list[list[Evaluation]]]) -> float:
    started = time.process_time()
    evaluations = run()
    passed = time.process_time() - started
    found.append([[row._replace(seconds=0.0) for row in rows] for rows in evaluations])
    return passed


def _failed(trial: Finetuning, error: Exception) -> None:
    raise RuntimeError(f"{trial.spec.trial_id} failed") from error


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
