"""Table 7 of the paper as printed, and how trials differ in recipe and length from those behind it."""

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import NamedTuple

import pandas as pd

from analysis.evaluations.recipes import Choices
from analysis.words import without_width
from jobs.catalog.catalog import PACKAGED
from jobs.specs.base import ALL
from jobs.specs.optimizers import Execution
from jobs.specs.recipes import RECIPES, Recipe

PUBLISHED = "as-published"
"""The recipe behind Table 7 (docs/explanation/why/normalisation.md)."""

_ARITHMETIC = frozenset({*Execution.model_fields, "evaluation"})
"""Choices that change only the rounding of numbers."""
NOT_COMPARED = (
    f"Numerical settings ({', '.join(sorted(_ARITHMETIC))}) are not compared, because those of the paper's trials are "
    "unknown."
)


@cache
def printed() -> pd.DataFrame:
    """Return Table 7 as printed: dataset, images (-1: all), source, test accuracy in percent (``printed``)."""
    file = resources.files(__package__).joinpath("table7.csv")
    with file.open(encoding="utf-8") as text:
        wide = pd.read_csv(text)
    return wide.melt(["dataset", "images"], var_name="source", value_name="printed")


def published_epochs(images: int) -> int:
    """Return the length of Table 7's trials at a size (-1: the whole set): 100 epochs up to 1,600 images, 150 above."""
    return 100 if images != ALL and images <= 1600 else 150


def other_choices(choices: Choices | None, dataset: str) -> tuple[str, ...]:
    """Return the choices of a recipe that differ from Table 7's, such as ``normalization target (source)``, sorted.

    Choices that have no effect on the dataset's images, as far as its card is packaged, do not count.

    Args:
        choices: by key, as stored in results; an omitted field has its default. None: not recorded.
    """
    if choices is None:
        return ("recipe not recorded",)
    known, published = Recipe.model_fields, RECIPES[PUBLISHED]
    differing = []
    for key in sorted({*known, *choices} - _ARITHMETIC - ({"crop"} if _is_square(dataset) else set())):
        wanted = getattr(published, key) if key in known else None
        chosen = choices.get(key, known[key].default if key in known else None)
        if chosen != wanted:
            differing.append(f"{key} {chosen}" + (f" ({wanted})" if key in known else ""))
    return tuple(differing)


def _is_square(dataset: str) -> bool:
    card = PACKAGED.datasets.get(dataset)
    return card is not None and not card.of_image_files


def other_length(epochs: int, published: int) -> tuple[str, ...]:
    """Describe a length that differs from the published one, such as ``30 epochs (150)``; empty if they are equal."""
    return () if epochs == published else (f"{epochs} epochs ({published})",)


class Agreement(NamedTuple):
    """How own values agree with published ones; one row per cell in each column."""

    known: "pd.Series[bool]"
    """Whether there is an interval."""
    width: "pd.Series[bool]"
    """Whether it has a width, without which it says nothing about agreement."""
    agrees: "pd.Series[bool]"

    def words(self, agrees: str, single: str, values: str, noun: str = "rows") -> str:
        """Return clauses on the intervals.

        Args:
            agrees: what intervals do that agree, such as ``the intervals overlap``.
            single: why there is no interval, if there is none.
            values: what is equal where an interval has no width.
        """
        if not self.known.any():
            return f"{single}, so no interval can be given"
        equal, with_width = self.known & ~self.width, self.known & self.width
        clauses = [without_width(int(equal.sum()), "row", values)] if equal.any() else []
        if with_width.any():
            which = f"{'other ' if equal.any() else ''}{noun}"
            agreeing = int(self.agrees[with_width].sum())
            clauses.append(f"{agrees} in {agreeing} of the {int(with_width.sum())} {which} with an interval")
        return "; ".join(clauses)


def listed(differences: "pd.Series[str]") -> Sequence[str]:
    """Return every difference in a column of texts joined by ``'; '``, once and sorted."""

    return sorted({difference for text in differences for difference in text.split("; ") if difference})
