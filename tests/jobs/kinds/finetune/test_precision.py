"""Trials in 16-bit precision: torch's own recipe step by step, bundles, resumes and stored activations to the bit."""

from collections.abc import Callable
from copy import deepcopy
from itertools import cycle

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from jobs.data.datasets import Dataset
from jobs.execution.determinism import deterministic
from jobs.execution.loss_scale import LossScale
from jobs.kinds.finetune.bundle import Bundle
from jobs.kinds.finetune.transfer import set_training_modes
from jobs.kinds.finetune.trial import Finetuning
from jobs.models.weights import SourceWeights
from jobs.networks.arithmetic import FORMATS
from jobs.specs.optimizers import Precision
from tests.jobs.support import CPU, finetune_spec, finetuned, numbers

pytestmark = pytest.mark.usefixtures("short_tests")

HALVES = pytest.mark.parametrize("precision", list(FORMATS))


def one_batch() -> Callable[[], bool]:
    answers = cycle([False, True])
    return lambda: next(answers)


def assert_same(trial: Finetuning, other: Finetuning) -> None:
    assert numbers(trial) == numbers(other)
    mine, expected = trial.tensors(), other.tensors()
    assert mine.keys() == expected.keys()
    assert [name for name, tensor in mine.items() if not torch.equal(tensor, expected[name])] == []


@HALVES
@pytest.mark.parametrize("blocks", [3, -1])
def test_every_step_is_torch_s(precision: Precision, blocks: int, weights: SourceWeights, few_digits: Dataset) -> None:
    """As torch's documentation trains with autocast and ``GradScaler``: equal parameters after each step."""
    spec = finetune_spec({"precision": precision}, blocks=blocks, epochs=2)
    trial = Finetuning(spec, weights, few_digits, CPU)
    network = deepcopy(trial.network)
    recipe = spec.recipe
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(
        trained, lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    scaler = torch.amp.GradScaler("cpu", enabled=precision == "float16")
    while not trial.done:
        for group in optimizer.param_groups:
            group["lr"] = trial.learning_rate
        indices = trial.batches[trial.batch]
        images_NCHW, labels_N = trial.training_images(indices), trial.training_labels(indices)
        with deterministic(recipe):
            set_training_modes(network, spec)
            optimizer.zero_grad()
            with torch.autocast("cpu", FORMATS[precision]):
                logits_NK = network.model((images_NCHW - network.mean) / network.std)
            loss = nn.functional.cross_entropy(logits_NK.float(), labels_N)
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
        trial.advance(one_batch())
        mine, theirs = trial.network.state_dict(), network.state_dict()
        assert [name for name, tensor in mine.items() if not torch.equal(tensor, theirs[name])] == []


@pytest.mark.parametrize(
    ("precision", "mode"),
    [("bfloat16", "batch"), ("bfloat16", "calibrated"), ("bfloat16", "source"), ("float16", "source")],
)
def test_a_bundle_computes_what_each_trial_does_alone(
    precision: Precision, mode: str, weights: SourceWeights, few_digits: Dataset
) -> None:
    """With ``source`` and ``calibrated``, the trials read activations that are stored in the trunk's own format."""

    def failed(trial: Finetuning, error: Exception) -> None:
        raise AssertionError(f"{trial.spec.trial_id} failed") from error

    recipe = {"precision": precision, "frozen_batchnorm": mode, "learning_rate": 0.01}
    specs = [finetune_spec(recipe, blocks=blocks, epochs=2) for blocks in (0, 3, 11, -1)]
    bundle, *others = (Bundle(Finetuning(spec, weights, few_digits, CPU), failed) for spec in specs)
    assert all(bundle.join(other) for other in others)
    bundle.advance()
    assert len(bundle.trials) == len(specs)
    for trial in bundle.trials:
        assert_same(trial, finetuned(trial.spec, weights, few_digits))
        if trial.spec.blocks != -1 and mode != "batch":
            kept = trial.kept().test
            assert kept is not None
            assert kept.part(slice(0, 2)).dtype is FORMATS[precision]


@HALVES
def test_a_resumed_trial_computes_the_same(precision: Precision, weights: SourceWeights, few_digits: Dataset) -> None:
    """From a file at every batch; in float16 with the scale of the loss."""
    spec = finetune_spec({"precision": precision, "learning_rate": 0.01}, blocks=1, epochs=2)
    whole = finetuned(spec, weights, few_digits)
    trial = Finetuning(spec, weights, few_digits, CPU)
    while not trial.done:
        trial.advance(one_batch())
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
    assert_same(trial, whole)
    assert ("loss-scale/scale" in whole.tensors()) == (precision == "float16")


@HALVES
def test_what_stays_in_float32(precision: Precision, weights: SourceWeights, few_digits: Dataset) -> None:
    trial = finetuned(
        finetune_spec({"precision": precision, "learning_rate": 0.01}, blocks=3, epochs=1), weights, few_digits
    )
    changed = [tensor for tensor in trial.tensors().values() if tensor.is_floating_point()]
    assert {tensor.dtype for tensor in changed} == {torch.float32}
    assert trial.network(trial.test_images(slice(0, 2))).dtype is torch.float32
    plain = finetuned(finetune_spec({"learning_rate": 0.01}, blocks=3, epochs=1), weights, few_digits)
    mine, theirs = trial.evaluations[0], plain.evaluations[0]
    assert mine.train_loss != theirs.train_loss
    if precision == "bfloat16":  # the first steps in float16 overflow, and are not taken
        assert mine.train_loss == pytest.approx(theirs.train_loss, rel=0.05)


def test_a_step_that_overflows_is_not_taken() -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([parameter], lr=0.5)
    scale = LossScale("float16", CPU)

    def step(slope: float) -> None:
        optimizer.zero_grad()
        loss: Tensor = (slope * parameter).sum()
        scale.scaled(loss).backward()  # type: ignore[no-untyped-call]
        scale.step(optimizer)

    step(1.0)
    assert parameter.tolist() == [0.5] * 3
    assert {name: float(number) for name, number in scale.tensors().items()} == {
        "loss-scale/scale": 65536.0,
        "loss-scale/steps": 1.0,
    }
    step(1e38)
    assert parameter.tolist() == [0.5] * 3
    assert float(scale.tensors()["loss-scale/scale"]) == 32768.0
    other = LossScale("float16", CPU)
    other.load(scale.tensors())
    assert other.tensors() == scale.tensors()
    assert LossScale("bfloat16", CPU).tensors() == {}
