"""Fields added by later versions: ids and digests of earlier versions do not change.

``fields.json`` lists every hashed field, with the release that added it and its default. A field missing there would
change ids or digests of finished trials: declare it with ``jobs.specs.growth.later``, then add its line.
"""

import json
from collections.abc import Iterator
from inspect import get_annotations
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from jobs.catalog.catalog import Cards
from jobs.kind import plain
from jobs.kinds.attack.spec import AttackSpec
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.specs.base import Spec
from jobs.specs.canonical import digest
from jobs.specs.growth import Growing, later, since
from jobs.specs.recipes import Recipe
from jobs.specs.trial import TrialSpec, recipe_digest
from jobs.study.expand import expand
from jobs.study.model import Study
from orchestrator.study.load import load_study, parse_study
from tests.jobs.support import finetune_spec

FIELDS = Path(__file__).with_name("fields.json")
FIRST = "0.1.0"
REQUIRED = "(required)"


def models(base: type[Growing] = Growing) -> Iterator[type[Growing]]:
    """Yield every model in the code, without tests, whose values are hashed."""
    for model in base.__subclasses__():
        if model.__module__.startswith("jobs."):
            yield model
        yield from models(model)


def listed() -> dict[str, list[Any]]:
    """Return each field (MODEL.NAME) with its release and its default."""
    return {
        f"{model.__name__}.{name}": [since(field.json_schema_extra) or FIRST, _default(field)]
        for model in models()
        for name, field in model.model_fields.items()
        if name in get_annotations(model)  # where it is declared
    }


def _default(field: FieldInfo) -> Any:
    return REQUIRED if field.is_required() else to_jsonable_python(field.get_default(call_default_factory=True))


def test_every_hashed_field_is_listed_with_its_release_and_default() -> None:
    assert Cards in set(models())
    assert Study in set(models())
    assert {FinetuneSpec, AttackSpec} <= set(models())
    known, found = json.loads(FIELDS.read_text()), json.loads(json.dumps(listed()))
    assert found == known, f"see the docstring of {Path(__file__).name}"
    later = {name for name, (release, _) in found.items() if release != FIRST}
    assert "Resources.on_other_device" in later


def test_a_field_that_came_later_has_a_default() -> None:
    for model in models():
        for name, field in model.model_fields.items():
            if since(field.json_schema_extra) is not None:
                assert not field.is_required(), (model, name)


class Grown(Recipe):
    """The recipe with a field of a later release."""

    mixup: float = later(0.0, since="99.0.0", ge=0)


class GrownTrial(FinetuneSpec):
    recipe: Grown


def test_a_later_field_moves_nothing_while_it_has_its_default() -> None:
    old = finetune_spec()
    new = GrownTrial.model_validate(old.model_dump())
    assert new.recipe.mixup == 0
    assert (new.trial_id, new.identity) == (old.trial_id, old.identity)
    assert recipe_digest(new.recipe) == recipe_digest(old.recipe)
    assert plain(new) == plain(old)
    assert new.choices == old.choices


def test_any_other_value_is_another_trial() -> None:
    old = finetune_spec()
    new = GrownTrial.model_validate({**old.model_dump(), "recipe": {**old.recipe.model_dump(), "mixup": 0.5}})
    assert new.trial_id != old.trial_id
    assert recipe_digest(new.recipe) != recipe_digest(old.recipe)
    assert GrownTrial.model_validate(new.model_dump(mode="json")) == new


class GrownAtTheTop(FinetuneSpec):
    """A trial with a later release's field that is also a column."""

    mixup: float = later(0.0, since="99.0.0")


def test_a_later_field_is_a_column_while_it_has_its_default() -> None:
    """At its default the field is not part of the id, but it is in every row, because rows have all columns."""
    new = GrownAtTheTop.model_validate(finetune_spec().model_dump())
    assert new.trial_id == finetune_spec().trial_id
    assert new.choices == {**finetune_spec().choices, "mixup": 0.0}


class Inner(Spec):
    a: int = 1
    b: int = later(2, since="99.0.0")


class Outer(Spec):
    inner: Inner = Inner()
    many: tuple[Inner, ...] = (Inner(),)
    named: dict[str, Inner] = Field(default={"x": Inner()})
    either: Inner | str = "none"
    whole: Inner | None = later(None, since="99.0.0")


def test_nested_fields_are_left_out_at_any_depth() -> None:
    """In lists, mappings and unions, and where a whole model was added later."""
    assert Outer().model_dump(mode="json") == {
        "inner": {"a": 1},
        "many": [{"a": 1}],
        "named": {"x": {"a": 1}},
        "either": "none",
    }
    made = Outer(either=Inner(b=3), many=(Inner(b=4),), whole=Inner())
    assert made.model_dump(mode="json") == {
        "inner": {"a": 1},
        "many": [{"a": 1, "b": 4}],
        "named": {"x": {"a": 1}},
        "either": {"a": 1, "b": 3},
        "whole": {"a": 1},
    }
    assert Outer.model_validate(made.model_dump(mode="json")) == made
    assert json.loads(made.model_dump_json()) == made.model_dump(mode="json")
    assert made.model_dump(include={"many"}) == {"many": ({"a": 1, "b": 4},)}


@pytest.mark.parametrize("name", ["demo-full", "paper"])
def test_a_study_s_digest_is_that_of_what_it_says(name: str) -> None:
    """The resolved text, which a root keeps, reproduces the same digest and trials."""
    one = load_study(name)
    again = parse_study(one.resolved(), "resolved.yaml")
    assert again.digest == one.digest == digest(one.model_dump(mode="json"))[:16]
    assert {spec.trial_id for spec in expand(again)} == {spec.trial_id for spec in expand(one)}


def test_numerics_is_part_of_every_identity() -> None:
    assert all(
        "numerics_version" in model.__dict__ or model.__subclasses__()
        for model in models()
        if issubclass(model, TrialSpec)
    )
