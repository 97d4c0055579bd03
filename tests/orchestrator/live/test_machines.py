"""Which finished trials the live page shows as run on several kinds of device, or on different data under one name."""

from types import SimpleNamespace
from typing import Any

from orchestrator.live.contents import Run
from orchestrator.live.machines import _several_kinds, several_digests
from tests.jobs.support import finetune_spec


def kinds(*ran: tuple[dict[str, Any], int, str]) -> dict[str, int]:
    """Return what is shown of trials, each given by its recipe, its seed and the device kind on which it ran."""
    specs = [(finetune_spec(recipe, seed=seed), kind) for recipe, seed, kind in ran]
    plan: Any = SimpleNamespace(specs={spec.trial_id: spec for spec, _ in specs})
    done: Any = {spec.trial_id: SimpleNamespace(device_kind=kind) for spec, kind in specs}
    return _several_kinds(done, plan)


def test_the_kinds_of_two_recipes_are_no_mixture() -> None:
    """The name of a kind says what the recipe computes."""
    halved = {"precision": "bfloat16"}
    assert kinds(({}, 1, "one"), ({}, 2, "one"), (halved, 1, "one, bfloat16"), (halved, 2, "one, bfloat16")) == {}


def test_trials_of_one_recipe_on_two_kinds() -> None:
    halved = {"precision": "bfloat16"}
    found = kinds(({}, 1, "one"), ({}, 2, "other"), ({}, 3, "other"), (halved, 1, "one, bfloat16"))
    assert found == {"other": 2, "one": 1}


def test_datasets_with_several_digests() -> None:
    ran = [("digits", "a" * 64), ("digits", "a" * 64), ("digits", "b" * 64), ("fmnist", "c" * 64), (None, None)]
    done = [Run(1.0, "one", "here", None, "", False, name, digest) for name, digest in (*ran, ("fmnist", None))]
    assert several_digests(done) == {f"digits {'a' * 16}": 2, f"digits {'b' * 16}": 1}
    assert several_digests(done[:2]) == {}
