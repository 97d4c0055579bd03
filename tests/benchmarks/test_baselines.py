"""The baselines do the same work as DeltaSweep: the same accuracies, exactly or within the noise of seeds."""

import statistics

import pytest

from benchmarks.baselines import released, tune_program
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.specs.recipes import Recipe
from tests.jobs.support import finetuned
from tests.packaged import packaged_dataset, packaged_weights

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
    """Same subset, order, initial FC layer and computation: every image is classified the same."""
    (spec, *_) = specs(blocks, epochs=3, mode=mode)
    ours = finetuned(spec, packaged_weights(spec.source), packaged_dataset("digits", 32))
    theirs = tune_program.run_trial(spec)
    assert [(row.epoch, row.train_accuracy, row.test_accuracy) for row in ours.evaluations] == theirs
    assert [row.epoch for row in theirs] == [1, 3]


@pytest.mark.slow
def test_the_released_way_learns_as_much() -> None:
    """Its batch order differs: the mean over seeds agrees within three of its standard errors."""
    trials = specs(1, epochs=10)
    ours = [
        finetuned(spec, packaged_weights(spec.source), packaged_dataset("digits", 32)).evaluations[-1].test_accuracy
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
