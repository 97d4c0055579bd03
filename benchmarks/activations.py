"""Speed-up from cached activations over B1 in ``source`` mode, for the 20 seeds of a cell, cache creation included.

The cell: ResNet-50 at 224 pixels, a grey dataset with 10,000 test images, 100 epochs on 100 images in one batch each, 6
evaluations. A whole cell takes B1 days of one core, so both are timed on a sample and scaled:

- B1 (``benchmarks.baselines.tune_program``): a step on 100 images and an evaluation of 64. A cell has 20 x 100 steps
  and 20 x 6 x 10,000 evaluated images. Loading the network is not included.
- DeltaSweep: the first epoch of a trial without a cache, then a whole trial of another seed, with 64 test images,
  evaluated after every other epoch. The seconds of its batches give the time to compute the test set's activations
  (once per cell, 10,000 images), to open a trial and compute its subset's activations (20 times), for a step (20 x
  100), and for an evaluation (20 x 6 x 10,000 images).

Times are CPU seconds with one thread. Not included: verifying a file of 10,000 images against its digest, once per
process (about half a second per GB; 0.08, 4 and 8 GB at blocks 0, 1 and 3). Operation counts alone give ratios of 116,
13.5 and 4.1. Ratios of seconds can be higher, because the stem and the first blocks, which run only once, take more
time per operation than the last ones. Weights and images are random.

Usage: python -m benchmarks.activations [REPETITIONS]
"""

import os
import statistics
import sys
import tempfile
import time
from itertools import product
from typing import NamedTuple

import torch

from benchmarks.baselines import tune_program
from benchmarks.rows import at_least, report
from jobs.catalog.catalog import PACKAGED
from jobs.data.batches import batch_indices
from jobs.data.datasets import Dataset, ImageSet
from jobs.data.subsets import draw_subset
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.kinds.finetune.trial import Finetuning
from jobs.models.weights import SourceWeights
from jobs.networks.builders import build
from jobs.paths import VARIABLE
from jobs.specs.recipes import Recipe

SEEDS, EPOCHS, EVALUATIONS, TEST = 20, 100, 6, 10_000
SAMPLE = 64
TARGETS = {0: 60.0, 1: 8.0, 3: 3.0}
SAMPLED_EPOCHS = {0: 41, 1: 7, 3: 3}
"""Epochs of the sampled trials, by blocks: more where a batch is cheaper."""


class Cost(NamedTuple):
    """CPU seconds of the parts of a trial."""

    step: float
    evaluation: float
    """CPU seconds for the sample of test images."""
    opening: float = 0.0
    """From opening a trial to its first step."""
    building: float = 0.0
    """Cache creation shared by all trials of a cell, for the sample of test images."""

    @property
    def cell(self) -> float:
        """CPU seconds of all trials of a cell, one after another."""
        share = TEST / SAMPLE
        trial = self.opening + EPOCHS * self.step + EVALUATIONS * share * self.evaluation
        return share * self.building + SEEDS * trial


def main(repetitions: int) -> None:
    torch.manual_seed(0)
    weights = SourceWeights(build(PACKAGED.architecture("resnet50"), 1000).model.state_dict(), "random weights")
    data = Dataset("mnist", _images(200), _images(SAMPLE), "random bytes")
    ratios: dict[int, list[float]] = {blocks: [] for blocks in TARGETS}
    for repetition, blocks in product(range(repetitions), TARGETS):
        specs = [_spec(blocks, seed) for seed in (2 * repetition, 2 * repetition + 1)]
        costs = _b1(specs[0], weights, data), _ours(specs, weights, data)
        ratios[blocks].append(costs[0].cell / costs[1].cell)
        for name, cost in zip(("B1", "DeltaSweep"), costs, strict=True):
            parts = ", ".join(f"{part} {seconds:.4f}" for part, seconds in cost._asdict().items())
            print(f"blocks {blocks}: {name}: seconds: {parts}; scaled to the cell {cost.cell / 3600:.2f} h", flush=True)
    name = "cached activations, ResNet-50, 100 images, 20 seeds, blocks {}: B1 / it, scaled from samples"
    report([at_least(name.format(blocks), ratios[blocks], target) for blocks, target in TARGETS.items()])


def _spec(blocks: int, seed: int) -> FinetuneSpec:
    return FinetuneSpec(
        source="natural",
        dataset="mnist",
        blocks=blocks,
        images=100,
        seed=seed,
        epochs=SAMPLED_EPOCHS[blocks],
        evaluate_every=2,
        recipe=Recipe(frozen_batchnorm="source", evaluation_batch_size=SAMPLE),
    )


def _images(count: int) -> ImageSet:
    rng = torch.Generator().manual_seed(count)
    images_NCHW = torch.randint(256, (count, 1, 224, 224), dtype=torch.uint8, generator=rng)
    return ImageSet(images_NCHW, torch.arange(count) % 10)


def _b1(spec: FinetuneSpec, weights: SourceWeights, data: Dataset) -> Cost:
    recipe, form = spec.recipe, torch.channels_last
    torch.set_num_threads(recipe.threads)
    model, parameters = tune_program.network(spec, weights.tensors)
    model = model.to(memory_format=form)
    optimizer = torch.optim.SGD(parameters, recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay)
    subset = draw_subset(data.train.labels_N, spec.images, spec.seed)
    (order,) = batch_indices(len(subset), recipe.batch_size, spec.seed, epoch=1)
    images = subset[order]
    tune_program.set_modes(model, spec)
    started = time.process_time()
    x_NCHW = tune_program.floats(data.train.images_NCHW[images], form)
    tune_program.step(model, optimizer, x_NCHW, data.train.labels_N[images], recipe)
    stepped = time.process_time()
    tune_program.accuracy(model, data, recipe, form)
    return Cost(stepped - started, time.process_time() - stepped)


def _ours(specs: list[FinetuneSpec], weights: SourceWeights, data: Dataset) -> Cost:
    with tempfile.TemporaryDirectory() as home:
        os.environ[VARIABLE] = home
        (cold,) = _batches(specs[0], weights, data, 1)
        first, *others = _batches(specs[1], weights, data, specs[1].epochs)
    step, evaluated = statistics.median(others[::2]), statistics.median(others[1::2])
    return Cost(step, evaluated - step, opening=first - evaluated, building=cold - first)


def _batches(spec: FinetuneSpec, weights: SourceWeights, data: Dataset, count: int) -> list[float]:
    """Return the seconds of each of the first ``count`` batches of a trial, evaluations after them included.

    The first one includes opening the trial.
    """
    seconds = []
    started = time.process_time()
    trial = Finetuning(spec, weights, data, torch.device("cpu"))
    for _ in range(count):
        answers = iter([False, True])
        trial.advance(answers.__next__)
        seconds.append(time.process_time() - started)
        started = time.process_time()
    return seconds


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
