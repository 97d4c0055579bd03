"""Trial specs: validation, schedules, and ids that depend only on the spec."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.optim import SGD
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR, StepLR

from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.kinds.pretrain.spec import PretrainSpec
from jobs.specs.canonical import digest
from jobs.specs.contrast import Contrast
from jobs.specs.recipes import PretrainRecipe, Recipe
from jobs.specs.threat_model import Constraint, ThreatModel
from jobs.specs.trial import recipe_digest
from tests.jobs.support import finetune_spec

DEMO: dict[str, Any] = {
    "source": "fmnist_natural",
    "dataset": "digits",
    "blocks": 3,
    "images": 50,
    "seed": 20_000_000,
    "epochs": 30,
    "evaluate_every": 5,
}


def demo_spec(**changes: Any) -> FinetuneSpec:
    return FinetuneSpec(**{**DEMO, "recipe": Recipe(), **changes})


# --- ids ---


def test_golden_id_of_a_finetuning_trial() -> None:
    assert demo_spec().trial_id == "finetune-digits-fmnist_natural-k3-n50-s20000000-57a7d01b543f969a"


def test_golden_id_of_the_whole_set_and_the_whole_network() -> None:
    spec = demo_spec(blocks=-1, images=-1, recipe=Recipe(normalization="as-released"))
    assert spec.trial_id == "finetune-digits-fmnist_natural-k-1-n-1-s20000000-bf64af812c52b798"


def test_golden_id_of_a_pretraining_trial() -> None:
    spec = PretrainSpec(
        architecture="resnet35-w8",
        dataset="fmnist",
        threat=ThreatModel(constraint=Constraint.NONE, epsilon=0),
        seed=20_000_000,
        epochs=9,
        recipe=PretrainRecipe(),
    )
    assert spec.trial_id == "pretrain-fmnist-resnet35-w8-none-s20000000-749eb588b9300c1b"


def test_id_is_the_hash_of_kind_numerics_and_spec() -> None:
    spec = demo_spec()
    identity = {"kind": "finetune", "numerics": 2, "spec": {**DEMO, "recipe": Recipe().model_dump(mode="json")}}
    assert spec.trial_id.rsplit("-", 1)[1] == digest(identity)[:16]


def test_raising_numerics_changes_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    before = demo_spec().trial_id
    monkeypatch.setattr(FinetuneSpec, "numerics_version", 3)
    assert demo_spec().trial_id != before


OTHER_FIELDS = {
    "source": "fmnist_l2_eps1",
    "dataset": "fmnist",
    "blocks": 1,
    "images": 51,
    "seed": 20_100_000,
    "epochs": 31,
    "evaluate_every": 6,
}


def test_every_field_of_a_trial_changes_its_id() -> None:
    assert set(OTHER_FIELDS) == set(FinetuneSpec.model_fields) - {"recipe"}
    ids = {demo_spec(**{field: value}).trial_id for field, value in OTHER_FIELDS.items()}
    assert len(ids | {demo_spec().trial_id}) == len(OTHER_FIELDS) + 1


OTHER_CHOICES: dict[str, object] = {
    "threads": 2,
    "memory_format": "contiguous",
    "tf32": True,
    "learning_rate": 0.2,
    "momentum": 0.8,
    "weight_decay": 1e-4,
    "batch_size": 64,
    "lr_decay": 0.5,
    "lr_milestones": "as-released",
    "evaluation_batch_size": 128,
    "normalization": "target",
    "frozen_batchnorm": "source",
    "fc_init": "default",
    "transforms": "none",
    "crop": "whole-image",
    "optimizer": "adamw",
    "beta1": 0.8,
    "beta2": 0.99,
    "eps": 1e-6,
    "schedule": "cosine",
    "min_learning_rate": 0.01,
    "warmup_epochs": 2,
    "warmup_factor": 0.1,
    "backbone_lr_factor": 0.1,
    "evaluation": "folded",
    "precision": "bfloat16",
}
BESIDE: dict[str, dict[str, object]] = {
    "beta1": {"optimizer": "adamw"},
    "beta2": {"optimizer": "adamw"},
    "eps": {"optimizer": "adamw"},
    "min_learning_rate": {"schedule": "cosine"},
    "warmup_factor": {"warmup_epochs": 2},
}
"""Choices without which another choice has no effect and is refused."""
ONLY_ONE_VALUE = {"compile"}


def test_every_choice_of_the_recipe_changes_ids_and_the_recipe_digest() -> None:
    assert set(OTHER_CHOICES) | ONLY_ONE_VALUE == set(Recipe.model_fields)
    changed: list[dict[str, Any]] = [{field: value, **BESIDE.get(field, {})} for field, value in OTHER_CHOICES.items()]
    recipes = [Recipe(), *(Recipe(**choices) for choices in changed)]
    assert len({demo_spec(recipe=recipe).trial_id for recipe in recipes}) == len(recipes)
    assert len({recipe_digest(recipe) for recipe in recipes}) == len(recipes)


def test_every_value_of_a_choice_changes_the_id() -> None:
    choices = {
        "normalization": ("as-released", "source", "target"),
        "frozen_batchnorm": ("batch", "calibrated", "source"),
        "transforms": ("as-released", "as-published", "none"),
    }
    for field, values in choices.items():
        assert len({demo_spec(recipe=Recipe(**{field: value})).trial_id for value in values}) == len(values)


def test_choices_with_one_value_so_far_are_in_the_identity() -> None:
    assert set(demo_spec().model_dump(mode="json")["recipe"]) >= ONLY_ONE_VALUE


def test_an_id_survives_json() -> None:
    spec = demo_spec(recipe=Recipe(learning_rate=0.1 + 0.2))
    assert FinetuneSpec.model_validate_json(spec.model_dump_json()).trial_id == spec.trial_id


def test_equal_numbers_written_differently_are_one_trial() -> None:
    assert demo_spec(recipe=Recipe(learning_rate=1)).trial_id == demo_spec(recipe=Recipe(learning_rate=1.0)).trial_id


# --- frozen, no unknown keys, values in range ---


def test_specs_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        demo_spec().seed = 1  # type: ignore[misc]  # the refused input
    with pytest.raises(ValidationError, match="frozen"):
        demo_spec().recipe.momentum = 0.5  # type: ignore[misc]  # the refused input


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValidationError, match="gpu"):
        demo_spec(gpu=1)
    with pytest.raises(ValidationError, match="momentun"):
        Recipe(momentun=0.5)  # type: ignore[call-arg]  # the refused input


@pytest.mark.parametrize("field", [*DEMO, "recipe"])
def test_no_field_of_a_trial_has_a_default(field: str) -> None:
    values = {**DEMO, "recipe": Recipe()}
    del values[field]
    with pytest.raises(ValidationError, match=field):
        FinetuneSpec(**values)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("blocks", -2),
        ("images", 0),
        ("images", -2),
        ("seed", -1),
        ("epochs", 0),
        ("evaluate_every", 0),
        ("source", "../natural"),
        ("source", "Natural"),
        ("dataset", ""),
        ("dataset", "a/b"),
    ],
)
def test_impossible_values_of_a_trial_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        demo_spec(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("momentum", 1),
        ("weight_decay", -1e-4),
        ("batch_size", 0),
        ("lr_decay", 0),
        ("lr_decay", 1.1),
        ("threads", 0),
        ("evaluation_batch_size", 0),
        ("compile", True),
        ("compile", 0),
        ("compile", "false"),
        ("tf32", 0),
        ("frozen_batchnorm", "target"),
        ("transforms", "crop"),
        ("normalization", "imagenet"),
        ("optimizer", "adam"),
        ("schedule", "linear"),
        ("beta1", 1),
        ("beta2", -0.1),
        ("eps", 0),
        ("min_learning_rate", -1e-6),
        ("warmup_epochs", -1),
        ("warmup_epochs", 1.0),
        ("warmup_factor", 0),
        ("warmup_factor", 1.1),
        ("backbone_lr_factor", 0),
    ],
)
def test_impossible_choices_of_a_recipe_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        Recipe(**{field: value})


# --- schedules ---


@pytest.mark.parametrize(
    ("epochs", "every", "expected"),
    [
        (100, 20, [1, 21, 41, 61, 81, 100]),
        (150, 10, [*range(1, 142, 10), 150]),
        (30, 5, [1, 6, 11, 16, 21, 26, 30]),
        (4, 1, [1, 2, 3, 4]),
        (1, 20, [1]),
        (21, 20, [1, 21]),
        (20, 20, [1, 20]),
    ],
)
def test_evaluated_epochs(epochs: int, every: int, expected: list[int]) -> None:
    spec = demo_spec(epochs=epochs, evaluate_every=every)
    assert spec.evaluated_epochs == expected
    assert spec.evaluations == len(expected)
    assert [epoch for epoch in range(epochs + 3) if spec.evaluates(epoch)] == expected


@pytest.mark.parametrize(
    ("milestones", "epochs", "expected"),
    [
        # floor(100 / 3) = 33: after 33 and 66 as in the paper, and once more after 99 as released
        ("paper", 100, [0.1] * 33 + [0.01] * 33 + [0.001] * 34),
        ("as-released", 100, [0.1] * 33 + [0.01] * 33 + [0.001] * 33 + [0.0001]),
        ("paper", 150, [0.1] * 50 + [0.01] * 50 + [0.001] * 50),
        ("as-released", 150, [0.1] * 50 + [0.01] * 50 + [0.001] * 50),
        ("paper", 3, [0.1, 0.01, 0.001]),
        ("paper", 2, [0.1, 0.1]),
        ("as-released", 2, [0.1, 0.1]),
        ("paper", 4, [0.1, 0.01, 0.001, 0.001]),
        ("as-released", 5, [0.1, 0.01, 0.001, 0.0001, 0.00001]),
    ],
)
def test_learning_rate_at_every_epoch(milestones: Any, epochs: int, expected: list[float]) -> None:
    recipe = Recipe(lr_milestones=milestones)
    rates = [recipe.learning_rate_at(epoch, epochs) for epoch in range(1, epochs + 1)]
    assert rates == pytest.approx(expected, rel=1e-12)


def torch_s_rates(recipe: Recipe, epochs: int, scheduler: Callable[[SGD], LRScheduler]) -> list[float]:
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=recipe.learning_rate)
    schedule = scheduler(optimizer)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("epochs", [100, 150, 30, 3])
def test_learning_rates_are_those_of_torch_s_schedulers(epochs: int) -> None:
    """As released: StepLR every epochs // 3. The paper: the first two of these steps, so 33 and 66, or 50 and 100."""
    third = epochs // 3
    released, paper = Recipe(lr_milestones="as-released"), Recipe(lr_milestones="paper")
    for recipe, scheduler in (
        (released, lambda optimizer: StepLR(optimizer, step_size=third, gamma=0.1)),
        (paper, lambda optimizer: MultiStepLR(optimizer, milestones=[third, 2 * third], gamma=0.1)),
    ):
        expected = torch_s_rates(recipe, epochs, scheduler)
        found = [recipe.learning_rate_at(epoch, epochs) for epoch in range(1, epochs + 1)]
        assert found == pytest.approx(expected, rel=1e-15)


def test_learning_rate_uses_the_recipe_s_factor() -> None:
    recipe = Recipe(learning_rate=0.8, lr_decay=0.5)
    assert [recipe.learning_rate_at(epoch, 6) for epoch in range(1, 7)] == [0.8, 0.8, 0.4, 0.4, 0.2, 0.2]


# --- threat models ---


def test_step_size_is_c_epsilon_over_k() -> None:
    assert ThreatModel(constraint=Constraint.L2, epsilon=3, steps=20).step_size == 0.375
    # Section 7's one-step attack: step 6 = 2 epsilon (A.10)
    assert ThreatModel(constraint=Constraint.L2, epsilon=3, steps=1, step_scale=2).step_size == 6


@pytest.mark.parametrize("scale", [1.5, 4, 1, 5])
def test_step_scale_is_between_1_5_and_4_exclusive(scale: float) -> None:
    with pytest.raises(ValidationError, match="step_scale"):
        ThreatModel(constraint=Constraint.L2, epsilon=3, steps=20, step_scale=scale)


@pytest.mark.parametrize(
    ("constraint", "epsilon", "steps", "message"),
    [
        ("l2", 1, 0, "steps"),
        ("linf", 0.1, 0, "steps"),
        ("gaussian", 1, 5, "steps"),
        ("none", 0, 5, "steps"),
        ("none", 1, 0, "epsilon"),
        ("l2", 0, 5, "epsilon"),
        ("linf", 0, 5, "epsilon"),
        ("gaussian", 0, 0, "epsilon"),
        ("l2", -1, 5, "epsilon"),
        ("l3", 1, 5, "constraint"),
    ],
)
def test_threat_models_that_contradict_themselves_are_refused(
    constraint: Any, epsilon: float, steps: int, message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        ThreatModel(constraint=constraint, epsilon=epsilon, steps=steps)


@pytest.mark.parametrize(
    ("constraint", "epsilon", "steps"), [("none", 0, 0), ("gaussian", 1, 0), ("l2", 1, 1), ("linf", 0.01, 7)]
)
def test_threat_models_that_make_sense_are_taken(constraint: Any, epsilon: float, steps: int) -> None:
    threat = ThreatModel(constraint=constraint, epsilon=epsilon, steps=steps)
    assert threat.constraint.value == constraint


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"baseline": "l2"}, "got l2 twice without baseline_blocks"),
        ({"baseline_blocks": 1}, "got l2 and natural"),
        ({"baseline": "l2", "baseline_blocks": 3}, "got 3 in both"),
        ({"baseline": "l2", "blocks": (0, 1), "baseline_blocks": 1}, "got 1 in both"),
        ({"family": "Learning speed"}, "family"),
        ({"family": ""}, "family"),
        ({"baseline": "l2", "baseline_blocks": True}, "baseline_blocks"),
    ],
)
def test_contrasts_that_compare_nothing(choices: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Contrast(**{"source": "l2", "baseline": "natural", "blocks": (3,)} | choices)


def test_a_contrast_compares_two_sources_or_two_depths_of_one() -> None:
    plain = Contrast(source="l2", baseline="natural", blocks=(3,))
    assert plain.model_dump() == {"source": "l2", "baseline": "natural", "blocks": (3,), "epoch": "last"}
    deep = Contrast(source="l2", baseline="l2", blocks=(0, 3), baseline_blocks=1, family="depth")
    assert Contrast.model_validate_json(deep.model_dump_json()) == deep


def test_the_support_s_trial_is_small() -> None:
    assert len(finetune_spec().evaluated_epochs) == 4
