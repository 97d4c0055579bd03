"""Fine-tuning with every optimizer and schedule: compared with torch step by step, paused anywhere, and in bundles."""

from collections.abc import Callable
from copy import deepcopy
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from jobs.catalog.catalog import PACKAGED
from jobs.data.datasets import Dataset
from jobs.execution.attempt import AttemptStatus, attempt_trial, open_trial
from jobs.execution.commit import Attempt
from jobs.execution.determinism import deterministic
from jobs.execution.optimizers import allocate_state, load_state, make_optimizer, state_tensors
from jobs.execution.retention import RetentionPolicy
from jobs.kinds.finetune.bundle import Bundle
from jobs.kinds.finetune.transfer import set_training_modes
from jobs.kinds.finetune.trial import Finetuning
from jobs.models.weights import SourceWeights
from jobs.results import Store, read_trials
from jobs.specs.optimizers import TrainingRecipe
from jobs.specs.recipes import Recipe
from tests.jobs.support import CPU, finetune_spec, finetuned, numbers
from tests.jobs.torch_schedules import torch_schedule

ADAMW: dict[str, Any] = {"optimizer": "adamw", "learning_rate": 0.003, "weight_decay": 0.05, "beta2": 0.99, "eps": 1e-7}
COSINE: dict[str, Any] = {"schedule": "cosine", "warmup_epochs": 2, "warmup_factor": 0.1}
SLOW_BACKBONE: dict[str, Any] = {"backbone_lr_factor": 0.125}
"""A power of two, so that torch's schedulers compute the same bits from a group's own rate."""
ALL = ADAMW | COSINE | SLOW_BACKBONE
EPOCHS = 5
ROOTS = Path(__file__).parents[3] / "roots"


def one_batch() -> Callable[[], bool]:
    answers = cycle([False, True])
    return lambda: next(answers)


def torch_optimizer(network: nn.Module, fc: nn.Module, recipe: TrainingRecipe) -> Optimizer:
    """Return torch's optimizer as a user would write it: one group, or the backbone and the last layer."""
    groups: list[dict[str, Any]] = [{"params": [p for p in network.parameters() if p.requires_grad]}]
    if recipe.backbone_lr_factor != 1:
        last = list(fc.parameters())
        backbone = [p for p in groups[0]["params"] if all(p is not other for other in last)]
        groups = [
            {"params": backbone, "lr": recipe.learning_rate * recipe.backbone_lr_factor},
            {"params": last, "lr": recipe.learning_rate},
        ]
    if recipe.optimizer == "sgd":
        return SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    return AdamW(
        groups,
        lr=recipe.learning_rate,
        betas=(recipe.beta1, recipe.beta2),
        eps=recipe.eps,
        weight_decay=recipe.weight_decay,
    )


@pytest.mark.parametrize("blocks", [1, -1])
@pytest.mark.parametrize(
    "recipe",
    [ADAMW, {"optimizer": "adamw", **COSINE}, ALL, COSINE, {"warmup_epochs": 2, "lr_milestones": "as-released"}],
    ids=["adamw", "adamw-cosine", "all", "sgd-cosine", "sgd-warmup"],
)
def test_every_step_is_torch_s(
    recipe: dict[str, Any], blocks: int, weights: SourceWeights, few_digits: Dataset
) -> None:
    """The same batches, through torch's own optimizer and schedulers: equal parameters after each of 15 steps."""
    spec = finetune_spec(recipe, blocks=blocks, epochs=EPOCHS)
    trial = Finetuning(spec, weights, few_digits, CPU)
    network = deepcopy(trial.network)
    optimizer = torch_optimizer(network, network.fc, spec.recipe)
    schedule = torch_schedule(optimizer, spec.recipe, EPOCHS)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    steps = 0
    while not trial.done:
        indices, ends_epoch = trial.batches[trial.batch], trial.ends_epoch
        images, labels = trial.training_images(indices), trial.training_labels(indices)
        with deterministic(spec.recipe):
            set_training_modes(network, spec)
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if ends_epoch:
            schedule.step()
        trial.advance(one_batch())
        steps += 1
        expected = network.state_dict()
        assert [k for k, tensor in trial.network.state_dict().items() if not torch.equal(tensor, expected[k])] == []
    assert steps == 3 * EPOCHS
    moved = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, p in network.named_parameters() if p.requires_grad}


def test_rows_have_the_learning_rate_of_the_last_layer(weights: SourceWeights, few_digits: Dataset) -> None:
    trial = Finetuning(finetune_spec(ALL, epochs=EPOCHS), weights, few_digits, CPU)
    rates: list[list[float]] = []
    trial.optimizer.register_step_pre_hook(
        lambda optimizer, *_: rates.append([g["lr"] for g in optimizer.param_groups])
    )
    trial.advance()
    of_rows = [row.learning_rate for row in trial.evaluations]
    assert [last for _, last in rates[::3]] == of_rows
    assert [backbone for backbone, _ in rates[::3]] == [0.125 * rate for rate in of_rows]
    assert of_rows[:3] == pytest.approx([0.0003, 0.00165, 0.003])


@pytest.mark.parametrize(
    ("blocks", "factor", "expected"), [(3, 1.0, [1.0]), (3, 0.5, [0.5, 1.0]), (0, 0.5, [1.0]), (-1, 2.0, [2.0, 1.0])]
)
def test_groups_of_parameters(
    blocks: int, factor: float, expected: list[float], weights: SourceWeights, few_digits: Dataset
) -> None:
    recipe = {"backbone_lr_factor": factor, "learning_rate": 1.0}
    trial = Finetuning(finetune_spec(recipe, blocks=blocks), weights, few_digits, CPU)
    groups = trial.optimizer.param_groups
    assert [group["lr"] for group in groups] == expected
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in trial.trained_parameters.values()}
    if factor != 1:
        assert [id(p) for p in groups[-1]["params"]] == [id(p) for p in trial.network.fc.parameters()]


@pytest.mark.parametrize("recipe", [ALL, {"momentum": 0.0}, COSINE | SLOW_BACKBONE], ids=["all", "plain", "sgd"])
def test_a_trial_restored_at_any_batch_goes_on_to_the_same_numbers(
    recipe: dict[str, Any], weights: SourceWeights, few_digits: Dataset
) -> None:
    """Every checkpoint passes through a file's bytes; a new trial continues from each."""
    spec = finetune_spec(recipe, blocks=1, epochs=EPOCHS)
    whole = finetuned(spec, weights, few_digits)
    trial = Finetuning(spec, weights, few_digits, CPU)
    while not trial.done:
        data = save({name: tensor.detach().cpu().contiguous() for name, tensor in trial.tensors().items()})
        before, trial = trial, Finetuning(spec, weights, few_digits, CPU)
        trial.restore(
            load(data),
            epoch=before.epoch,
            batch=before.batch,
            tally=before.tally,
            evaluations=before.evaluations,
            seconds=before.seconds,
            history=before.history,
        )
        trial.advance(one_batch())
    assert numbers(trial) == numbers(whole)
    mine, expected = trial.tensors(), whole.tensors()
    assert mine.keys() == expected.keys()
    assert [name for name, tensor in mine.items() if not torch.equal(tensor, expected[name])] == []


def test_a_stopped_attempt_commits_the_numbers_of_one_that_was_not(store: Store, tmp_path: Any) -> None:
    spec = finetune_spec(ALL, source="fmnist_natural", blocks=1, epochs=3)
    calls = iter(range(100))
    attempts = RetentionPolicy(checkpoint_every=1)
    stopped = attempt_trial(
        store, open_trial(store, spec, PACKAGED, CPU), Attempt(), attempts, lambda: next(calls) == 5
    )
    assert stopped.status is AttemptStatus.STOPPED
    assert attempt_trial(store, open_trial(store, spec, PACKAGED, CPU), Attempt(2), attempts).notes == []
    whole = open_trial(store, spec, PACKAGED, CPU)
    whole.advance()
    rows = read_trials(store, "finetune", ["epoch", "test_loss", "learning_rate", "device_kind"]).to_pylist()
    assert [
        (row["epoch"], row["test_loss"], row["learning_rate"]) for row in sorted(rows, key=lambda row: row["epoch"])
    ] == [(row.epoch, row.test_loss, row.learning_rate) for row in whole.evaluations]
    (kind,) = {row["device_kind"] for row in rows}
    assert " adamw 1: " in kind
    assert " cosine 1: " in kind


@pytest.mark.parametrize("blocks", [(0, 1, 3, -1)])
def test_a_bundle_computes_what_each_trial_does_alone(
    blocks: tuple[int, ...], weights: SourceWeights, few_digits: Dataset
) -> None:
    def failed(trial: Finetuning, error: Exception) -> None:
        raise AssertionError(f"{trial.spec.trial_id} failed") from error

    specs = [finetune_spec(ALL, blocks=k, epochs=3) for k in blocks]
    bundle, *others = (Bundle(Finetuning(spec, weights, few_digits, CPU), failed) for spec in specs)
    assert all(bundle.join(other) for other in others)
    bundle.advance()
    assert len(bundle.trials) == len(blocks)
    for trial in bundle.trials:
        alone = finetuned(trial.spec, weights, few_digits)
        assert numbers(trial) == numbers(alone)
        mine, expected = trial.tensors(), alone.tensors()
        assert mine.keys() == expected.keys()
        assert [name for name, tensor in mine.items() if not torch.equal(tensor, expected[name])] == []


# --- the optimizer's state ---


@pytest.mark.parametrize(
    ("recipe", "states"),
    [({}, {"momentum"}), ({"momentum": 0.0}, set()), (ADAMW, {"step", "exp_avg", "exp_avg_sq"})],
    ids=["momentum", "plain", "adamw"],
)
def test_names_and_numbers_of_an_optimizer_s_state(
    recipe: dict[str, Any], states: set[str], weights: SourceWeights, few_digits: Dataset
) -> None:
    """The number of stored numbers per parameter is what plans count, besides one step count per tensor."""
    trial = Finetuning(finetune_spec(recipe), weights, few_digits, CPU)
    assert state_tensors(trial.optimizer, trial.trained_parameters) == {}
    trial.advance(one_batch())
    parameters, found = trial.trained_parameters, state_tensors(trial.optimizer, trial.trained_parameters)
    assert found.keys() == {f"{state}/{name}" for state in states for name in parameters}
    stored = sum(tensor.numel() for name, tensor in found.items() if not name.startswith("step/"))
    assert stored == trial.spec.recipe.state_numbers * sum(p.numel() for p in parameters.values())


@pytest.mark.parametrize("recipe", [{}, {"momentum": 0.0}, ADAMW], ids=["momentum", "plain", "adamw"])
def test_allocated_state_is_that_of_a_trial_in_progress(
    recipe: dict[str, Any], weights: SourceWeights, few_digits: Dataset
) -> None:
    """Other replicas allocate state of the same names, shapes and places as the first one's, then receive it."""
    trial, other = (Finetuning(finetune_spec(recipe), weights, few_digits, CPU) for _ in range(2))
    trial.advance(one_batch())
    allocate_state(other.optimizer, other.trained_parameters)
    expected = state_tensors(trial.optimizer, trial.trained_parameters)
    found = state_tensors(other.optimizer, other.trained_parameters)
    assert [(name, tensor.shape, tensor.device) for name, tensor in found.items()] == [
        (name, tensor.shape, tensor.device) for name, tensor in expected.items()
    ]
    assert all(p.grad is None for p in other.trained_parameters.values())


@pytest.mark.parametrize("recipe", [{}, ADAMW], ids=["sgd", "adamw"])
def test_loaded_state_is_laid_out_like_its_parameter(
    recipe: dict[str, Any], weights: SourceWeights, few_digits: Dataset
) -> None:
    trial, other = (Finetuning(finetune_spec(recipe), weights, few_digits, CPU) for _ in range(2))
    trial.advance(one_batch())
    states = {
        name: tensor.contiguous() for name, tensor in state_tensors(trial.optimizer, trial.trained_parameters).items()
    }
    load_state(other.optimizer, other.trained_parameters, states)
    strides = [
        (parameter.stride(), state.stride())
        for parameter in other.trained_parameters.values()
        for state in other.optimizer.state[parameter].values()
        if state.shape == parameter.shape
    ]
    assert len(strides) == len(other.trained_parameters) * other.spec.recipe.state_numbers
    assert all(own == laid for own, laid in strides)
    for name, tensor in state_tensors(other.optimizer, other.trained_parameters).items():
        assert torch.equal(tensor, states[name])
        assert tensor.data_ptr() != states[name].data_ptr(), "a copy"


def test_loading_nothing_is_the_state_before_the_first_step(weights: SourceWeights, few_digits: Dataset) -> None:
    trial = Finetuning(finetune_spec(ADAMW), weights, few_digits, CPU)
    trial.advance(one_batch())
    load_state(trial.optimizer, trial.trained_parameters, {})
    assert state_tensors(trial.optimizer, trial.trained_parameters) == {}


def test_an_optimizer_of_a_whole_network_has_its_parameters(weights: SourceWeights, few_digits: Dataset) -> None:
    network = Finetuning(finetune_spec(blocks=-1), weights, few_digits, CPU).network
    for choices in ({}, ADAMW):
        (group,) = make_optimizer(network, Recipe(**choices)).param_groups
        assert [id(p) for p in group["params"]] == [id(p) for p in network.parameters()]


def test_steps_of_sgd_are_those_of_torch_s_default_on_every_device(
    weights: SourceWeights, few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where those of AdamW are fused: earlier releases had SGD alone, and its numbers stay."""
    network = Finetuning(finetune_spec(), weights, few_digits, CPU).network
    monkeypatch.setattr("jobs.execution.optimizers.fuses_steps", lambda precision, device: True)
    sgd, adamw = (make_optimizer(network, Recipe(**choices)).param_groups[0] for choices in ({}, ADAMW))
    assert (sgd["fused"], sgd["foreach"]) == (None, None)
    assert adamw["fused"]


@pytest.mark.parametrize("release", ["0.1.0", "0.2.0"])
def test_the_state_in_checkpoints_of_older_releases_is_read(
    release: str, weights: SourceWeights, few_digits: Dataset
) -> None:
    (path,) = (ROOTS / release / "checkpoints").rglob("*.safetensors")
    stored = load(path.read_bytes())
    trial = Finetuning(finetune_spec(blocks=0), weights, few_digits, CPU)
    load_state(trial.optimizer, trial.trained_parameters, stored)
    assert trial.trained_parameters.keys() == {"fc.weight", "fc.bias"}
    for name, parameter in trial.trained_parameters.items():
        assert stored[f"momentum/{name}"].any()
        assert torch.equal(trial.optimizer.state[parameter]["momentum_buffer"], stored[f"momentum/{name}"])
