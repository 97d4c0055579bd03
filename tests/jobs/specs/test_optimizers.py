"""Optimizers and schedules of recipes: learning rates compared with torch's schedulers, and choices without effect."""

import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.optim import SGD

from jobs.catalog.catalog import PACKAGED
from jobs.kinds.finetune.problems import problems
from jobs.kinds.pretrain.kind import problems as pretraining_problems
from jobs.kinds.pretrain.spec import PretrainSpec
from jobs.kinds.training.rows import contradictions
from jobs.specs.optimizers import DOES_NOT_FIT, TrainingRecipe, on_top_of
from jobs.specs.recipes import RECIPES, PretrainRecipe, Recipe, named_recipe
from jobs.specs.threat_model import Constraint, ThreatModel
from tests.jobs.support import finetune_spec
from tests.jobs.torch_schedules import torch_schedule

RATES = st.floats(1e-6, 10)


def torch_s(recipe: TrainingRecipe, epochs: int) -> list[float]:
    """Return the learning rates of torch's schedulers, stepped after each epoch, as in torchvision's references."""
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=recipe.learning_rate)
    schedule = torch_schedule(optimizer, recipe, epochs)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def rates(recipe: TrainingRecipe, epochs: int) -> list[float]:
    return [recipe.learning_rate_at(epoch, epochs) for epoch in range(1, epochs + 1)]


@given(
    epochs=st.integers(1, 120),
    warmup=st.integers(0, 40),
    rate=RATES,
    least=st.floats(0, 1),
    factor=st.floats(1e-3, 1),
)
@settings(deadline=None, max_examples=200)
def test_cosines_are_torch_s_to_the_last_bit(
    epochs: int, warmup: int, rate: float, least: float, factor: float
) -> None:
    assume(warmup < epochs)
    recipe = Recipe.model_validate(
        {"schedule": "cosine", "learning_rate": rate, "min_learning_rate": least * rate, "warmup_epochs": warmup}
        | ({"warmup_factor": factor} if warmup else {})
    )
    assert rates(recipe, epochs) == torch_s(recipe, epochs)


@given(
    epochs=st.integers(1, 120),
    warmup=st.integers(0, 40),
    rate=RATES,
    milestones=st.sampled_from(["paper", "as-released"]),
    decay=st.floats(0.01, 1),
)
@settings(deadline=None, max_examples=200)
def test_steps_are_torch_s_to_the_last_bit(
    epochs: int, warmup: int, rate: float, milestones: str, decay: float
) -> None:
    assume(warmup < epochs)
    recipe = Recipe.model_validate(
        {"learning_rate": rate, "warmup_epochs": warmup, "lr_milestones": milestones, "lr_decay": decay}
    )
    assert rates(recipe, epochs) == torch_s(recipe, epochs)


@pytest.mark.parametrize("epochs", [1, 2, 3, 100, 1000])
@pytest.mark.parametrize("warmup", [0, 1, 2, 99, 999])
def test_every_length_of_a_warm_up(epochs: int, warmup: int) -> None:
    if warmup < epochs:
        recipe = Recipe(schedule="cosine", warmup_epochs=warmup, min_learning_rate=1e-5)
        assert rates(recipe, epochs) == torch_s(recipe, epochs)


def test_what_a_schedule_looks_like() -> None:
    recipe = Recipe(schedule="cosine", learning_rate=1.0, warmup_epochs=2, warmup_factor=0.5)
    assert rates(recipe, 6) == pytest.approx([0.5, 0.75, 1.0, 0.8535533905932737, 0.5, 0.14644660940672627], rel=1e-15)


@pytest.mark.parametrize(
    ("choices", "key", "words"),
    [
        ({"optimizer": "adamw", "momentum": 0.5}, "momentum", ["optimizer: sgd", "0.5", "optimizer: adamw"]),
        ({"beta1": 0.5}, "beta1", ["optimizer: adamw", "0.5", "optimizer: sgd"]),
        ({"beta2": 0.5}, "beta2", ["optimizer: adamw"]),
        ({"eps": 0.5}, "eps", ["optimizer: adamw"]),
        ({"schedule": "cosine", "lr_decay": 0.5}, "lr_decay", ["schedule: steps", "0.5", "schedule: cosine"]),
        ({"schedule": "cosine", "lr_milestones": "as-released"}, "lr_milestones", ["schedule: steps"]),
        ({"min_learning_rate": 0.01}, "min_learning_rate", ["schedule: cosine", "0.01"]),
        ({"warmup_factor": 0.5}, "warmup_factor", ["warmup_epochs above 0", "warmup_epochs: 0"]),
        ({"schedule": "cosine", "min_learning_rate": 0.2}, "min_learning_rate", ["0.1", "0.2"]),
    ],
)
@pytest.mark.parametrize("model", [Recipe, PretrainRecipe, TrainingRecipe])
def test_a_choice_without_effect_is_refused(
    model: type[TrainingRecipe], choices: dict[str, Any], key: str, words: list[str]
) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(choices)
    (found,) = refused.value.errors()
    assert (found["type"], found["loc"]) == (DOES_NOT_FIT, (key,))
    assert all(word in found["msg"] for word in [*words, "expected ", "; got ", ". Fix: "])


def test_the_default_of_any_choice_may_be_written() -> None:
    defaults = {name: field.default for name, field in Recipe.model_fields.items()}
    for other in ({}, {"optimizer": "adamw"}, {"schedule": "cosine"}, {"optimizer": "adamw", "schedule": "cosine"}):
        assert Recipe.model_validate(defaults | other) == Recipe.model_validate(other)


def test_choices_of_a_base_give_way() -> None:
    released = RECIPES["as-released"].model_dump()
    assert on_top_of(released, {}) == released
    assert Recipe.model_validate(on_top_of(released, {"schedule": "cosine"})) == Recipe(
        schedule="cosine", normalization="as-released"
    )
    with pytest.raises(ValidationError, match="lr_decay"):
        Recipe.model_validate(on_top_of(released, {"schedule": "cosine", "lr_decay": 0.5}))
    assert named_recipe({"base": "as-published", "optimizer": "adamw"}) == on_top_of(
        RECIPES["as-published"].model_dump(), {"optimizer": "adamw"}
    )


def test_what_an_optimizer_keeps_and_computes() -> None:
    adamw = Recipe(optimizer="adamw")
    assert [r.state_numbers for r in (Recipe(), Recipe(momentum=0), adamw)] == [1, 0, 2]
    assert [r.operations for r in (Recipe(), adamw, Recipe(schedule="cosine", warmup_epochs=1))] == [
        (),
        ("adamw",),
        ("cosine",),
    ]


@pytest.mark.parametrize(("warmup", "possible"), [(0, True), (3, True), (4, False), (5, False)])
def test_epochs_remain_after_the_warm_up(warmup: int, possible: bool) -> None:
    spec = finetune_spec({"warmup_epochs": warmup})
    source = PretrainSpec(
        architecture="resnet35-w8",
        dataset="digits",
        threat=ThreatModel(constraint=Constraint.NONE, epsilon=0),
        seed=1,
        epochs=4,
        recipe=PretrainRecipe(warmup_epochs=warmup),
    )
    for mistakes in (problems(spec, PACKAGED), pretraining_problems(source, PACKAGED)):
        assert [mistake.place.key for mistake in mistakes] == ([] if possible else ["epochs"])


@pytest.mark.parametrize("schedule", ["steps", "cosine"])
def test_a_row_has_the_learning_rate_of_its_epoch(schedule: str) -> None:
    """Of a cosine, another C library may compute other last bits."""
    spec = finetune_spec({"schedule": schedule, "warmup_epochs": 1}, epochs=9)
    right = spec.recipe.learning_rate_at(5, 9)
    close, wrong = math.nextafter(right, 1), right * (1 + 1e-6)

    def contradicts(rate: float | None, epoch: int = 5) -> bool:
        return bool([*contradictions([{"epoch": epoch, "learning_rate": rate, "seconds": 1.0}], spec)])

    assert not contradicts(right)
    assert contradicts(close) == (schedule == "steps")
    assert contradicts(wrong)
    assert contradicts(None)
    assert not contradicts(None, epoch=10), "reported as another contradiction"
