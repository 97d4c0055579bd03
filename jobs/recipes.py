"""Recipes with a name, so that a study need not write every choice out. No torch."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from jobs import registry
from jobs.registry import DatasetCard, SourceCard
from jobs.specs import AnySpec, FinetuneSpec, Recipe

RECIPES: dict[str, Recipe] = {
    "paper": Recipe(),
    "as-released": Recipe(
        lr_milestones="as-released",
        transforms="as-released",
        normalization="as-released",
        frozen_batchnorm="batch",
        fc_init="normal",
    ),
    "as-published": Recipe(
        lr_milestones="as-released",
        transforms="as-published",
        normalization="source",
        frozen_batchnorm="batch",
        fc_init="normal",
    ),
}
"""``paper``: Tables 3 and 4. ``as-released``: the last released code, of 16 September 2020 and later, where the two
differ. ``as-published``: the released code of April to August 2020, which made Table 7 (design, section 9).
"""


def augments(spec: FinetuneSpec) -> bool:
    """Whether training images are never the same twice."""
    match spec.recipe.transforms:
        case "as-published":
            return True
        case "as-released":
            return registry.dataset(spec.dataset).colour
        case "none":
            return False


def crops_whole(spec: AnySpec) -> bool:
    """Whether a trial crops its training images from all of the image, where that can be more than its centre."""
    if not isinstance(spec, FinetuneSpec) or spec.recipe.crop != "whole-image":
        return False
    return registry.dataset(spec.dataset).of_image_files and augments(spec)


def normaliser(recipe: Recipe, source: SourceCard, target: DatasetCard) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std by the recipe; as released, a checkpoint's normaliser replaced the target's (design, section 9)."""
    as_released = recipe.normalization == "as-released"
    if recipe.normalization == "target" or (as_released and not source.carries_normaliser):
        return target.channel_statistics()
    return source.mean, source.std


def named_recipe(value: object) -> object:
    """A recipe as a study file says it, with a name replaced by its choices; anything else is given back as it is.

    Args:
        value: a name; or a mapping with the key ``base``, a name, and the choices that differ from it.

    Raises:
        ValidationError: when there is no recipe of the name, with every other mistake among the choices.
    """
    if isinstance(value, str):
        return RECIPES[value] if value in RECIPES else _refuse([_unknown(value, ())])
    if not isinstance(value, Mapping) or "base" not in value:
        return value
    base = value["base"]
    choices = {key: chosen for key, chosen in value.items() if key != "base"}
    if isinstance(base, str) and base in RECIPES:
        return {**RECIPES[base].model_dump(), **choices}
    return _refuse([_unknown(base, ("base",)), *_mistakes(choices)])


def varied(choices: object) -> object:
    """Lists of values for choices of a recipe, by the choice's key, as a study file says them; given back as they are.

    Raises:
        ValidationError: with every value that its choice cannot have, every key that is none, and all that is no list.
    """
    if not isinstance(choices, Mapping):
        return choices
    mistakes: list[InitErrorDetails] = []
    for key, values in choices.items():
        if key not in Recipe.model_fields:
            mistakes += [InitErrorDetails(type="extra_forbidden", loc=(key,), input=values)]
            continue
        if not isinstance(values, list | tuple):
            mistakes += [InitErrorDetails(type="tuple_type", loc=(key,), input=values)]
            continue
        for place, value in enumerate(values):
            mistakes += [{**found, "loc": (key, place)} for found in _mistakes({key: value})]
    if mistakes:
        _refuse(mistakes)
    return choices


def _unknown(name: object, location: tuple[str, ...]) -> InitErrorDetails:
    message = PydanticCustomError("unknown_recipe", f"unknown recipe; known recipes: {', '.join(RECIPES)}")
    return InitErrorDetails(type=message, loc=location, input=name)


def _mistakes(choices: Mapping[str, Any]) -> list[InitErrorDetails]:
    try:
        Recipe.model_validate(choices)
    except ValidationError as error:
        return [
            InitErrorDetails(type=item["type"], loc=item["loc"], input=item["input"], ctx=item.get("ctx", {}))
            for item in error.errors()
        ]
    return []


def _refuse(mistakes: list[InitErrorDetails]) -> object:
    raise ValidationError.from_exception_data("recipe", mistakes)
