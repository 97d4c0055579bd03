"""Recipes by their choices: results name each by a digest, people by what it does differently."""

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa

from jobs.growth import is_later
from jobs.specs import FinetuneSpec, Recipe

NUMERICS = "finetuned_numerics"

_LATER = {name: field.default for name, field in Recipe.model_fields.items() if is_later(field)}
_FIRST = Recipe.model_fields.keys() - _LATER

Choices: TypeAlias = Mapping[str, Any]
"""A recipe's choices by key, as results keep them."""


def recipe_choices(evaluations: pa.Table) -> dict[str, Choices]:
    """The choices of every recipe by its digest, in order of digest; recipes nobody recorded are left out. Choices that
    came later are there also where they have their default, which results leave out.

    Args:
        evaluations: rows with the columns ``recipe`` and ``recipe_json``.
    """
    found = evaluations.select(["recipe", "recipe_json"]).to_pandas().drop_duplicates()
    read = {digest: _read(text) for digest, text in found.itertuples(index=False)}
    return {digest: choices for digest, choices in sorted(read.items()) if choices is not None}


def recipe_words(recipes: Mapping[str, Choices]) -> dict[str, str]:
    """What tells each recipe from the others, such as ``frozen_batchnorm batch, normalization source``.

    Nothing where there are not two.
    """
    keys = sorted({key for choices in recipes.values() for key in choices})
    differing = [key for key in keys if len({repr(choices.get(key)) for choices in recipes.values()}) > 1]
    if not differing:
        return {}
    return {digest: ", ".join(f"{key} {choices.get(key)}" for key in differing) for digest, choices in recipes.items()}


def in_words(recipes: "pd.Series[str]", words: Mapping[str, str]) -> "pd.Series[str]":
    """A column of digests, by their words; those that have none stay."""
    return recipes.map(lambda digest: words.get(digest, digest))


def apart_by_numerics(recipes: "pd.Series[str]", numerics: "pd.Series[Any]") -> "pd.Series[str]":
    """How networks were fine-tuned, told apart where numbers of fine-tuning were changed on purpose in between.

    Args:
        recipes: of the networks, in words; null for sources.
        numerics: column ``NUMERICS``; files of 0.1.0, whose networks are all of the first, do not say it.
    """
    known = numerics.fillna(FinetuneSpec.first_numerics).astype("int64")
    if known[recipes.notna()].nunique() < 2:
        return recipes
    return (recipes + ", numerics " + known.astype(str)).where(recipes.notna(), recipes)


def _read(text: str | None) -> Choices | None:
    """Text that strangers wrote may be no recipe at all: its trials keep the digest as their name."""
    try:
        choices = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(choices, dict):
        return None
    return {**_LATER, **choices} if choices.keys() >= _FIRST else choices
