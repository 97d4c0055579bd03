"""The baselines do the same work as DeltaSweep: the same accuracies, to the image or within the noise of seeds."""

import statistics

import pytest

from benchmarks.baselines import released, tune_program
from jobs.data.datasets import load_dataset
from jobs.specs import FinetuneSpec, Recipe
from jobs.weights import load_source
from tests.jobs.support import finetuned

SEEDS = (7, 8, 9)


def specs(blocks: int, epochs: int, mode: str = "batch") -> list[FinetuneSpec]:
    return [
        FinetuneSpec(
            source="fmnist_linf_eps4",
            dataset="digits",
            blocks=blocks,
            images=200,
            seed=seed,
            epochs=epochs,
            evaluate_every=epochs,
            recipe=Recipe.model_validate({"batch_size": 50, "frozen_batchnorm": mode}),
        )
        for seed in SEEDS
    ]


@pytest.mark.parametrize("mode", ["batch", "source"])
@pytest.mark.parametrize("blocks", [0, 3])
def test_a_tune_program_computes_the_same_trial(blocks: int, mode: str) -> None:
    """Same subset, same order, same first FC layer, same way of computing: not one image is judged otherwise."""
    (spec, *_) = specs(blocks, epochs=3, mode=mode)
    ours = finetuned(spec, load_source(spec.source), load_dataset("digits", 32))
    theirs = tune_program.run_trial(spec)
    assert [(row.epoch, row.train_accuracy, row.test_accuracy) for row in ours.evaluations] == theirs
    assert [row.epoch for row in theirs] == [1, 3]


@pytest.mark.slow
def test_the_released_way_learns_as_much() -> None:
    """Its order of batches is its own: the mean over seeds agrees within three of its standard errors."""
    trials = specs(1, epochs=10)
    ours = [
        finetuned(spec, load_source(spec.source), load_dataset("digits", 32)).evaluations[-1].test_accuracy
        for spec in trials
    ]
    theirs = [released.run_trial(spec)[-1].test_accuracy for spec in trials]
    differences = [left - right for left, right in zip(ours, theirs, strict=True)]
    noise = (statistics.variance(ours) / len(SEEDS) + statistics.variance(theirs) / len(SEEDS)) ** 0.5
    assert abs(statistics.mean(differences)) < 3 * noise, (ours, theirs)
    assert min(ours + theirs) > 60, (ours, theirs)


def test_baselines_refuse_what_they_cannot_do() -> None:
    spec = specs(0, 1)[0]
    other = spec.model_copy(update={"recipe": Recipe(frozen_batchnorm="source")})
    with pytest.raises(ValueError, match="defaults"):
        released.run_trial(other)
    with pytest.raises(ValueError, match="defaults"):
        tune_program.run_trial(spec.model_copy(update={"recipe": Recipe(frozen_batchnorm="calibrated")}))
    with pytest.raises(ValueError, match="defaults"):
        tune_program.run_trial(spec.model_copy(update={"recipe": Recipe(transforms="as-published")}))
