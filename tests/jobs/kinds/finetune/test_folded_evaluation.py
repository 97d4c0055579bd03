"""Trials with folded evaluation: training as with plain evaluation, bundles, resumes and stored activations."""

from itertools import cycle

import pytest
import torch
from safetensors.torch import load, save

from jobs.catalog.catalog import PACKAGED
from jobs.data.datasets import Dataset
from jobs.execution.device_kind import device_kind
from jobs.kind import workload
from jobs.kinds.finetune.bundle import Bundle
from jobs.kinds.finetune.sharing import kept_of_tests
from jobs.kinds.finetune.trial import Finetuning
from jobs.kinds.pretrain.spec import PretrainSpec
from jobs.kinds.pretrain.trial import Pretraining
from jobs.models.weights import SourceWeights
from jobs.specs.recipes import PretrainRecipe
from jobs.specs.threat_model import Constraint, ThreatModel
from tests.jobs.support import CPU, finetune_spec, finetuned, numbers

pytestmark = pytest.mark.usefixtures("short_tests")

FOLDED = {"evaluation": "folded", "learning_rate": 0.01}
PLAIN = {"learning_rate": 0.01}
LAYERS = 38
"""BatchNorm layers of the miniature, each after a convolution."""


def assert_same_state(trial: Finetuning | Pretraining, other: Finetuning | Pretraining) -> None:
    mine, expected = trial.tensors(), other.tensors()
    assert mine.keys() == expected.keys()
    assert [name for name, tensor in mine.items() if not torch.equal(tensor, expected[name])] == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("mode", ["batch", "calibrated", "source"])
@pytest.mark.parametrize("blocks", [0, 3, -1])
def test_training_is_the_same(
    blocks: int, mode: str, precision: str, weights: SourceWeights, few_digits: Dataset
) -> None:
    """Also with fixed statistics, where frozen layers train in evaluation mode, and activations are stored."""
    other = {"precision": precision, "frozen_batchnorm": mode}
    folded, plain = (
        finetuned(finetune_spec({**choices, **other}, blocks=blocks, epochs=3), weights, few_digits)
        for choices in (FOLDED, PLAIN)
    )
    assert_same_state(folded, plain)
    for mine, theirs in zip(folded.evaluations, plain.evaluations, strict=True):
        assert mine[:4] == theirs[:4]
        assert mine.test_loss == pytest.approx(theirs.test_loss, rel=1e-4 if precision == "float32" else 0.05)
    assert (len(folded.folds()), len(plain.folds())) == (LAYERS, 0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("mode", ["batch", "calibrated", "source"])
def test_a_bundle_computes_what_each_trial_does_alone(
    mode: str, precision: str, weights: SourceWeights, few_digits: Dataset
) -> None:
    def failed(trial: Finetuning, error: Exception) -> None:
        raise AssertionError(f"{trial.spec.trial_id} failed") from error

    recipe = {**FOLDED, "precision": precision, "frozen_batchnorm": mode}
    specs = [finetune_spec(recipe, blocks=blocks, epochs=2) for blocks in (0, 3, 11, -1)]
    bundle, *others = (Bundle(Finetuning(spec, weights, few_digits, CPU), failed) for spec in specs)
    assert all(bundle.join(other) for other in others)
    bundle.advance()
    for trial in bundle.trials:
        alone = finetuned(trial.spec, weights, few_digits)
        assert numbers(trial) == numbers(alone)
        assert_same_state(trial, alone)


def test_a_resumed_trial_computes_the_same(weights: SourceWeights, few_digits: Dataset) -> None:
    spec = finetune_spec(FOLDED, blocks=3, epochs=2)
    whole = finetuned(spec, weights, few_digits)
    trial = Finetuning(spec, weights, few_digits, CPU)
    while not trial.done:
        trial.advance(cycle([False, True]).__next__)
        stored = load(save({name: tensor.detach().contiguous() for name, tensor in trial.tensors().items()}))
        trial = Finetuning(spec, weights, few_digits, CPU).restore(
            stored,
            epoch=trial.epoch,
            batch=trial.batch,
            tally=trial.tally,
            evaluations=trial.evaluations,
            seconds=trial.seconds,
            history=trial.own_history,
        )
    assert numbers(trial) == numbers(whole)
    assert_same_state(trial, whole)


@pytest.mark.parametrize("constraint", [Constraint.NONE, Constraint.L2])
def test_pretraining(constraint: Constraint, few_digits: Dataset) -> None:
    """Its attack sees the network layer by layer."""
    strength = {"epsilon": 0.5, "steps": 2} if constraint is Constraint.L2 else {}
    threat = ThreatModel.model_validate({"constraint": constraint, "epsilon": 0, **strength})
    folded, plain = (
        Pretraining(
            PretrainSpec(
                architecture="resnet35-w8",
                dataset="digits",
                threat=threat,
                seed=7,
                epochs=2,
                recipe=PretrainRecipe.model_validate({"batch_size": 16, **choices}),
            ),
            few_digits,
            CPU,
        )
        for choices in (FOLDED, PLAIN)
    )
    for trial in (folded, plain):
        trial.advance()
    assert_same_state(folded, plain)
    for mine, theirs in zip(folded.evaluations, plain.evaluations, strict=True):
        assert mine.adversarial_accuracy == theirs.adversarial_accuracy
        assert mine.test_loss == pytest.approx(theirs.test_loss, rel=1e-4)
    assert (len(folded.folds()), len(plain.folds())) == (LAYERS, 0)


def test_identity() -> None:
    """Plain evaluation is what trials did before the choice existed: their ids stay."""
    plain, folded = finetune_spec(PLAIN), finetune_spec(FOLDED)
    assert "evaluation" not in plain.recipe.model_dump()
    assert finetune_spec({**PLAIN, "evaluation": "plain"}).trial_id == plain.trial_id
    assert folded.trial_id != plain.trial_id
    assert kept_of_tests(folded, PACKAGED) != kept_of_tests(plain, PACKAGED)
    assert workload(folded, PACKAGED) == workload(plain, PACKAGED)
    kinds = [device_kind(CPU, spec.recipe, spec.recipe.operations) for spec in (folded, plain)]
    assert "folded 1:" in kinds[0]
    assert "folded" not in kinds[1]
