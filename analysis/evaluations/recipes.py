"""Recipes described by their choices. Results identify a recipe by its digest; readers need the choices that differ."""

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa

from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.specs.growth import is_later
from jobs.specs.recipes import Recipe

NUMERICS = "finetuned_numerics"

_LATER = {name: field.default for name, field in Recipe.model_fields.items() if is_later(field)}
_FIRST = Recipe.model_fields.keys() - _LATER

Choices: TypeAlias = Mapping[str, Any]
"""A recipe's choices by key, as stored in results."""


def recipe_choices(evaluations: pa.Table) -> dict[str, Choices]:
    """Return the choices of every recorded recipe by digest, sorted by digest.

    Choices added in later versions are included even where they have their default, which results omit. Recipes
    that were not recorded are left out.

    Args:
        evaluations: rows with the columns ``recipe`` and ``recipe_json``.
    """
    recorded = evaluations.select(["recipe", "recipe_json"]).to_pandas().drop_duplicates()
    read = {digest: _read(text) for digest, text in recorded.itertuples(index=False)}
    return {digest: choices for digest, choices in sorted(read.items()) if choices is not None}


def recipe_words(recipes: Mapping[str, Choices]) -> dict[str, str]:
    """Describe recipes by the choices in which they differ, such as ``frozen_batchnorm batch, normalization source``.

    The result is empty where there are fewer than two recipes.
    """
    keys = sorted({key for choices in recipes.values() for key in choices})
    differing = [key for key in keys if len({repr(choices.get(key)) for choices in recipes.values()}) > 1]
    if not differing:
        return {}
    return {digest: ", ".join(f"{key} {choices.get(key)}" for key in differing) for digest, choices in recipes.items()}


def in_words(recipes: "pd.Series[str]", words: Mapping[str, str]) -> "pd.Series[str]":
    """Replace the digests in a column by their descriptions; digests without one are kept."""
    return recipes.map(lambda digest: words.get(digest, digest))


def apart_by_numerics(recipes: "pd.Series[str]", numerics: "pd.Series[Any]") -> "pd.Series[str]":
    """Return how networks were fine-tuned, with the numerics version appended where there are several versions.

    Args:
        recipes: descriptions of the networks' recipes; null for sources.
        numerics: the column ``NUMERICS``; null in files of 0.1.0, whose networks all have the first version.
    """
    known = numerics.fillna(FinetuneSpec.first_numerics_version).astype("int64")
    if known[recipes.notna()].nunique() < 2:
        return recipes
    return (recipes + ", numerics " + known.astype(str)).where(recipes.notna(), recipes)


def _read(text: str | None) -> Choices | None:
    """Parse a recipe; None for untrusted text that is not one (its trials keep the digest as their name)."""
    try:
        choices = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(choices, dict):
        return None
    return {**_LATER, **choices} if choices.keys() >= _FIRST else choices
