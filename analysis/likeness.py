"""Whether trials are of the recipe and the length that made Table 7 of the paper, and if not, in what they differ."""

from collections.abc import Sequence

import pandas as pd

from analysis.recipes import Choices
from jobs.recipes import RECIPES
from jobs.specs import ALL, Execution, Recipe

PUBLISHED = "as-published"
"""The recipe that made Table 7 (design, section 9)."""

_ARITHMETIC = frozenset(Execution.model_fields)
NOT_COMPARED = (
    f"Choices of arithmetic ({', '.join(sorted(_ARITHMETIC))}) are not compared: those of the paper's trials are not "
    "known."
)


def published_epochs(images: int) -> int:
    """The length of the trials of Table 7 at a size (-1: the whole set): 100 epochs to 1,600 images, 150 above."""
    return 100 if images != ALL and images <= 1600 else 150


def other_choices(choices: Choices | None) -> tuple[str, ...]:
    """The choices of a recipe that are not those of Table 7, such as ``normalization target (source)``, sorted.

    Args:
        choices: by key, as results keep them; a field that is left out has its default. None: not recorded.
    """
    if choices is None:
        return ("recipe not recorded",)
    known, published = Recipe.model_fields, RECIPES[PUBLISHED]
    found = []
    for key in sorted({*known, *choices} - _ARITHMETIC):
        wanted = getattr(published, key) if key in known else None
        chosen = choices.get(key, known[key].default if key in known else None)
        if chosen != wanted:
            found.append(f"{key} {chosen}" + (f" ({wanted})" if key in known else ""))
    return tuple(found)


def other_length(epochs: int, published: int) -> tuple[str, ...]:
    """In what a length is not that of the published trials, such as ``30 epochs (150)``; nothing if equal."""
    return () if epochs == published else (f"{epochs} epochs ({published})",)


def listed(differences: "pd.Series[str]") -> Sequence[str]:
    """Every difference that a column of texts has, once; as ``'; '.join`` wrote them."""
    return sorted({one for text in differences for one in text.split("; ") if one})
