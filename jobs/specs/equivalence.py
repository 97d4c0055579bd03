"""Equivalences: changes of the recipe that a study declares beforehand not to move its deltas."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from jobs.specs.base import NAME_PATTERN, Spec
from jobs.specs.contrast import EvaluatedEpoch
from jobs.specs.recipes import Recipe, chosen

Chosen = Annotated[dict[str, StrictBool | StrictInt | StrictFloat | StrictStr], BeforeValidator(chosen)]
"""Choices of a recipe, by key."""


class Equivalence(Spec):
    """A change of the recipe that should not move deltas: from the choices ``against`` to the choices ``recipe``.

    Its cells are the study's (dataset, images) pairs at the given blocks and epoch. In each, the delta of ``source``
    from ``baseline`` under one recipe is compared with that under the other (docs/explanation/statistics.md).
    """

    source: str = Field(pattern=NAME_PATTERN, description="source model of the deltas")
    baseline: str = Field(pattern=NAME_PATTERN, description="source model whose accuracy is subtracted in the deltas")
    blocks: tuple[StrictInt, ...] = Field(min_length=1, description="numbers of fine-tuned blocks of the deltas")
    epoch: EvaluatedEpoch = Field(
        default="last", description="the evaluated epoch of the deltas; last: each trial's last epoch"
    )
    recipe: Chosen = Field(description="choices of the recipe, one value each, such as `{precision: bfloat16}`")
    against: Chosen = Field(description="the same choices with the values that they are compared with")
    within: StrictFloat = Field(
        gt=0, le=100, description="the margin in percentage points: the largest change of a delta that does not matter"
    )

    @model_validator(mode="after")
    def _two_arms_and_two_recipes(self) -> Self:
        if self.source == self.baseline:
            raise ValueError(f"expected two sources; got {self.source} twice. Fix: name another baseline")
        if alone := sorted(self.recipe.keys() ^ self.against.keys()):
            raise ValueError(
                f"expected the same choices in recipe and against; got {', '.join(alone)} in only one of them. "
                "Fix: name each choice in both"
            )
        if self.recipe == self.against:
            named = ", ".join(f"{key}: {value}" for key, value in self.recipe.items()) or "none"
            raise ValueError(
                f"expected a choice with different values in recipe and against; got the same in both ({named}). "
                "Fix: change a value in one of them"
            )
        return self

    def sides(self, recipes: Sequence[Recipe]) -> list[tuple[Recipe | None, Recipe | None]]:
        """Pair the recipes with the choices ``recipe`` and those with ``against`` whose other choices are equal.

        Recipes with neither are left out.

        Args:
            recipes: the recipes of a study, each once.

        Returns:
            The pairs, in the order of ``recipes``; None where a recipe has no counterpart.
        """
        pairs: dict[tuple[tuple[str, Any], ...], list[Recipe | None]] = {}
        for recipe in recipes:
            for side, choices in enumerate((self.recipe, self.against)):
                if _has(recipe, choices):
                    pairs.setdefault(self.others(recipe), [None, None])[side] = recipe
        return [(with_recipe, with_against) for with_recipe, with_against in pairs.values()]

    def others(self, recipe: Recipe) -> tuple[tuple[str, Any], ...]:
        """Return the choices of a recipe that the equivalence does not name, with their values."""
        return tuple((key, value) for key, value in recipe if key not in self.recipe)


def _has(recipe: Recipe, choices: Mapping[str, Any]) -> bool:
    return all(getattr(recipe, key) == value for key, value in choices.items())
