"""Own means compared with Table 7 of the paper.

Where recipe and length are those of the table: the difference, and whether the interval covers the printed value.
Otherwise: the choices in which they differ.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.evaluations.frames import HEADLINE_BLOCKS
from analysis.evaluations.recipes import Choices, in_words
from analysis.statistics.grouped import CONFIDENCE
from analysis.statistics.paired_t import FEW_VALUES, ROUNDING, Moments, half_width
from analysis.tables.accuracy import means
from analysis.tables.model import Table
from analysis.tables.published import (
    NOT_COMPARED,
    PUBLISHED,
    Agreement,
    listed,
    other_choices,
    other_length,
    printed,
    published_epochs,
)
from analysis.words import counted, in_a_sentence, of_few
from jobs.specs.base import ALL

_RANDOM = "random_init"
"""The source of which Table 7 has networks trained in all blocks."""


def against_paper(data: pd.DataFrame, recipes: Mapping[str, Choices]) -> pd.DataFrame:
    """Return one row per cell of Table 7 that the results have, by origin, recipe, numerics and length.

    Columns: ``mean``, ``low``, ``high`` (t interval of the mean over seeds, percent), ``n``, ``epochs``, ``printed``
    (percent), ``difference`` (percentage points, own minus printed), ``unlike`` (how the trials differ from those of
    the table; empty: no known difference), ``covered`` (None for trials that differ, and without an interval of some
    width). The interval ignores the noise of the printed mean itself, so that slightly fewer than 95 % would cover it
    even in an exact repetition.

    Args:
        data: evaluations, of any recipes.
        recipes: the choices of recorded recipes, by digest. The recipe of imported trials is not recorded.
    """
    own = means(data[data["blocks"] == np.where(data["source"] == _RANDOM, ALL, HEADLINE_BLOCKS)])
    both = own.merge(printed(), on=["dataset", "images", "source"], how="inner")
    half = half_width(Moments(*(both[name].to_numpy() for name in ("n", "mean", "sd"))), CONFIDENCE)
    table = both.assign(low=both["mean"] - half, high=both["mean"] + half, difference=both["mean"] - both["printed"])
    table["unlike"] = pd.Series([_unlike(row, recipes) for row in table.to_dict("records")], table.index, dtype=object)
    known = table["high"] - table["low"] >= ROUNDING
    inside = (table["low"] <= table["printed"]) & (table["printed"] <= table["high"])
    table["covered"] = inside.astype(object).where(known & (table["unlike"] == ""), None)
    order = ["origin", "recipe", "numerics", "images_used", "dataset", "source", "epochs"]
    return table.sort_values(order, ignore_index=True)


def _unlike(row: dict[Any, Any], recipes: Mapping[str, Choices]) -> str:
    choices = () if row["origin"] == "imported" else other_choices(recipes.get(row["recipe"]), row["dataset"])
    return "; ".join([*other_length(row["epochs"], published_epochs(row["images"])), *choices])


def comparison_table(data: pd.DataFrame, recipes: Mapping[str, Choices], words: Mapping[str, str]) -> Table:
    """Format ``against_paper`` as a table.

    Args:
        words: descriptions of recipes, by digest, where there are several.
    """
    compared = against_paper(data, recipes)
    varying = [name for name in ("origin", "recipe", "numerics") if compared[name].nunique() > 1]
    worded = compared.assign(recipe=in_words(compared["recipe"], words))
    rows = tuple(_row(row, varying) for row in worded.to_dict("records"))
    return Table(
        name="table7-comparison",
        title="Mean test accuracy compared with Table 7 of the paper",
        columns=(
            *varying,
            "dataset",
            "images",
            "source",
            "epochs",
            "mean (%)",
            "95 % interval",
            "n",
            "paper (%)",
            "difference",
            "covered",
            "other settings (paper)",
        ),
        rows=rows,
        numbers=frozenset(
            {"numerics", "images", "epochs", "mean (%)", "95 % interval", "n", "paper (%)", "difference"}
        ),
        notes=summary(compared),
    )


def summary(compared: pd.DataFrame) -> tuple[str, ...]:
    """Summarize the comparison in sentences: own and imported trials separately, and what was not compared."""
    if compared.empty:
        return ("The results have no cell of Table 7 (its datasets, sizes and sources, with 3 blocks fine-tuned).",)
    like = compared[compared["unlike"] == ""]
    imported = like["origin"] == "imported"
    sentences = [_agreement(like[~imported], f"own trials with the recipe {PUBLISHED} and the table's trial lengths")]
    if (compared["origin"] == "imported").any():
        theirs = "imported trials with the table's trial lengths (their recipe is not recorded)"
        sentences.append(_agreement(like[imported], theirs))
    unlike = compared[compared["unlike"] != ""]
    if not unlike.empty:
        differences = ", ".join(listed(unlike["unlike"]))
        sentences.append(
            f"Not compared: {_counted(unlike)} with another recipe or trial length, listed with their differences (in "
            f"brackets: {PUBLISHED}, and 100 epochs up to 1,600 images, 150 above): {differences}."
        )
    return (*sentences, *_few(compared), NOT_COMPARED)


def _agreement(like: pd.DataFrame, which: str) -> str:
    if like.empty:
        return f"No cell of Table 7 has {which}."
    largest = like["difference"].abs().max()
    words = f"{_counted(like)} of Table 7: {which}; the largest difference is {largest:.2f} percentage points"
    intervals = Agreement(like["low"].notna(), like["covered"].notna(), like["covered"].map(bool))
    noun = "cells" if _cells(like) == len(like) else "rows"
    covers = "the interval covers the printed value"
    return f"{words}; {intervals.words(covers, 'no cell has two seeds', 'accuracies', noun)}."


def _few(compared: pd.DataFrame) -> list[str]:
    """Return a sentence on the rows whose interval is of few seeds."""
    known = compared[compared["low"].notna()]
    few = known.loc[known["n"] < FEW_VALUES, "n"]
    if few.empty:
        return []
    where = "" if len(few) == len(known) else f" in {counted(len(few), 'row')}"
    return [in_a_sentence([of_few([*few], where, "seeds", "accuracies")])]


def _counted(rows: pd.DataFrame) -> str:
    """Count the cells, and the rows if some cells have several: of other recipes, numerics or lengths."""
    words = counted(_cells(rows), "cell")
    return words if _cells(rows) == len(rows) else f"{words} ({counted(len(rows), 'row')})"


def _cells(rows: pd.DataFrame) -> int:
    return len(rows[["dataset", "images", "source"]].drop_duplicates())


def _row(row: dict[Any, Any], varying: list[str]) -> tuple[str, ...]:
    size = "all" if row["images"] == ALL else f"{row['images']:,}"
    interval = "" if pd.isna(row["low"]) else f"{row['low']:.2f} to {row['high']:.2f}"
    covered = {None: "", True: "yes", False: "no"}[None if row["covered"] is None else bool(row["covered"])]
    numbers = (
        str(row["epochs"]),
        f"{row['mean']:.2f}",
        interval,
        str(row["n"]),
        f"{row['printed']:.2f}",
        f"{round(row['difference'], 2) + 0.0:+.2f}",
        covered,
        row["unlike"],
    )
    return (*(str(row[name]) for name in varying), str(row["dataset"]), size, str(row["source"]), *numbers)
