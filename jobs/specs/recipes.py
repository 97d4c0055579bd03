"""Recipes: every training choice that changes numbers, and the named recipes of study files."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, StrictInt, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from jobs.specs.growth import later
from jobs.specs.optimizers import DOES_NOT_FIT, TrainingRecipe, on_top_of


class Recipe(TrainingRecipe):
    """Every fine-tuning choice that changes the numbers. The defaults are those of Tables 3 and 4."""

    transforms: Literal["as-released", "as-published", "none"] = Field(
        default="as-released",
        description="augmentation of training images. as-released: resize only for grey datasets; crop, flip, jitter "
        "and rotation, drawn per image, for colour datasets; as-published: the same, and the augmentation of colour "
        "datasets for grey ones, too; none: resize only",
    )
    normalization: Literal["as-released", "source", "target"] = Field(
        default="source",
        description="whose mean and std normalize the images: the source's, the target's, or as-released: the "
        "target's for the natural source and the source's for robust ones",
    )
    frozen_batchnorm: Literal["batch", "calibrated", "source"] = Field(
        default="batch",
        description="batch: frozen blocks normalize with batch statistics, and their running statistics drift "
        "(released code); calibrated: with statistics estimated once on the trial's own subset; source: with the "
        "source's statistics. With blocks -1 nothing is frozen and all three are the same",
    )
    fc_init: Literal["normal", "default"] = Field(
        default="normal", description="normal: weights N(0, 1), bias 0 (released code); default: torch's default"
    )
    crop: Literal["centre-square", "whole-image"] = later(
        "centre-square",
        since="0.3.0",
        description="where non-square training images are randomly cropped: within 4 pixels of their centre square, or "
        "anywhere along their longer side (released code). No effect on square images and on images that the "
        "transforms do not crop",
    )


class PretrainRecipe(TrainingRecipe):
    """Every pretraining choice that changes the numbers, besides the threat model. Defaults: A.10."""

    transforms: Literal["none", "random-resized-crop"] = Field(
        default="none",
        description="augmentation of training images: none, or a random crop of 8 to 100 % of the area of the resized "
        "centre square, resized again, and a flip",
    )
    replicas: StrictInt = Field(
        default=1,
        ge=1,
        le=1024,
        description="processes that share each batch, one GPU each; BatchNorm sees only its replica's part of a batch",
    )

    @model_validator(mode="after")
    def _an_image_each(self) -> Self:
        if self.replicas > self.batch_size:
            raise ValueError(
                f"expected at least one image of a batch per replica; got {self.replicas} replicas and a batch size of "
                f"{self.batch_size}. Fix: reduce replicas, or raise batch_size"
            )
        return self


_AS_PUBLISHED = Recipe(
    lr_milestones="as-released",
    transforms="as-published",
    normalization="source",
    frozen_batchnorm="batch",
    fc_init="normal",
)

RECIPES: dict[str, Recipe] = {
    "paper": Recipe(),
    "as-released": Recipe(
        lr_milestones="as-released",
        transforms="as-released",
        normalization="as-released",
        frozen_batchnorm="batch",
        fc_init="normal",
    ),
    "as-published": _AS_PUBLISHED,
    "fast": _AS_PUBLISHED.model_copy(update={"precision": "bfloat16", "evaluation": "folded"}),
}
"""``paper``: Tables 3 and 4. ``as-released``: the last released code (16 September 2020 and later), where it differs
from the paper. ``as-published``: the released code of April to August 2020, which produced Table 7
(docs/explanation/recipe.md). ``fast``: ``as-published`` with arithmetic that takes less time on hardware with units for
bfloat16 (docs/how-to/precision.md).
"""


def named_recipe(value: object) -> object:
    """Expand the recipe of a study file: replace a name with its choices. Any other value is returned unchanged.

    Args:
        value: a name, or a mapping with the key ``base`` (a name) and the choices that differ from it. Choices of the
            base that have no effect beside these are left out.

    Raises:
        ValidationError: if the name is unknown; it also lists every other mistake among the choices.
    """
    if isinstance(value, str):
        return RECIPES[value] if value in RECIPES else _refuse([_unknown(value, ())])
    if not isinstance(value, Mapping) or "base" not in value:
        return value
    base = value["base"]
    choices = {key: chosen for key, chosen in value.items() if key != "base"}
    if isinstance(base, str) and base in RECIPES:
        return on_top_of(RECIPES[base].model_dump(), choices)
    return _refuse([_unknown(base, ("base",)), *_mistakes(choices)])


def varied(choices: object) -> object:
    """Validate a study file's lists of values for recipe choices, keyed by choice. Returns them unchanged.

    Whether the choices go with each other follows from the study's own recipe (``jobs.study.model``).

    Raises:
        ValidationError: listing every invalid value, every unknown key and every value that is not a list.
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


def chosen(choices: object) -> object:
    """Validate single values of recipe choices, keyed by choice. Returns them unchanged.

    Raises:
        ValidationError: listing every invalid value and every unknown key.
    """
    if isinstance(choices, Mapping) and (mistakes := _mistakes(choices)):
        _refuse(mistakes)
    return choices


def _unknown(name: object, location: tuple[str, ...]) -> InitErrorDetails:
    message = PydanticCustomError("unknown_recipe", f"unknown recipe; known recipes: {', '.join(RECIPES)}")
    return InitErrorDetails(type=message, loc=location, input=name)


def _mistakes(choices: Mapping[str, Any]) -> list[InitErrorDetails]:
    """Return the mistakes in single choices; whether they go with each other is not known here."""
    try:
        Recipe.model_validate(choices)
    except ValidationError as error:
        return [
            InitErrorDetails(type=item["type"], loc=item["loc"], input=item["input"], ctx=item.get("ctx", {}))
            for item in error.errors()
            if item["type"] != DOES_NOT_FIT
        ]
    return []


def _refuse(mistakes: list[InitErrorDetails]) -> object:
    raise ValidationError.from_exception_data("recipe", mistakes)
