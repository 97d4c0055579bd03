"""Own means compared with Table 7 of the paper.

Where recipe and length are those of the table: the difference, and whether the interval covers the printed value.
Otherwise: the choices in which they differ.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.evaluations.frames import HEADLINE_BLOCKS
from analysis.evaluations.recipes import Choices, in_words
from analysis.statistics.grouped import CONFIDENCE
from analysis.statistics.paired_t import Moments, half_width
from analysis.tables.accuracy import means
from analysis.tables.model import Table
from analysis.tables.published import (
    NOT_COMPARED,
    PUBLISHED,
    listed,
    other_choices,
    other_length,
    printed,
    published_epochs,
)
from analysis.words import counted
from jobs.specs.base import ALL


def against_paper(data: pd.DataFrame, recipes: Mapping[str, Choices]) -> pd.DataFrame:
    """Return one row per cell of Table 7 that the results have, by origin, recipe, numerics and length.

    Columns: ``mean``, ``low``, ``high`` (t interval of the mean over seeds, percent), ``n``, ``epochs``, ``printed``
    (percent), ``difference`` (percentage points, own minus printed), ``unlike`` (how the trials differ from those of
    the table; empty: no known difference), ``covered`` (None without an interval, and for trials that differ). The
    interval ignores the noise of the printed mean itself, so that slightly fewer than 95 % would cover it even in an
    exact repetition.

    Args:
        data: evaluations, of any recipes.
        recipes: the choices of recorded recipes, by digest. The recipe of imported trials is not recorded.
    """
    own = means(data)
    own = own[(own["blocks"] == HEADLINE_BLOCKS) | (own["source"] == "random_init")]
    both = own.merge(printed(), on=["dataset", "images", "source"], how="inner")
    half = half_width(Moments(*(both[name].to_numpy() for name in ("n", "mean", "sd"))), CONFIDENCE)
    table = both.assign(low=both["mean"] - half, high=both["mean"] + half, difference=both["mean"] - both["printed"])
    table["unlike"] = pd.Series([_unlike(row, recipes) for row in table.to_dict("records")], table.index, dtype=object)
    inside = (table["low"] <= table["printed"]) & (table["printed"] <= table["high"])
    table["covered"] = inside.astype(object).where(table["low"].notna() & (table["unlike"] == ""), None)
    order = ["origin", "recipe", "numerics", "images_used", "dataset", "source", "epochs"]
    return table.sort_values(order, ignore_index=True)


def _unlike(row: dict[Any, Any], recipes: Mapping[str, Choices]) -> str:
    choices = () if row["origin"] == "imported" else other_choices(recipes.get(row["recipe"]))
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
        many = counted(len(unlike), "cell")
        sentences.append(
            f"Not compared: {many} with another recipe or trial length, listed with their differences (in brackets: "
            f"{PUBLISHED}, and 100 epochs up to 1,600 images, 150 above): {differences}."
        )
    return (*sentences, NOT_COMPARED)


def _agreement(like: pd.DataFrame, which: str) -> str:
    if like.empty:
        return f"No cell of Table 7 has {which}."
    largest = like["difference"].abs().max()
    words = (
        f"{counted(len(like), 'cell')} of Table 7: {which}; the largest difference is {largest:.2f} percentage points"
    )
    known = like[like["covered"].notna()]
    if known.empty:
        return f"{words}; no cell has two seeds, so no interval can be given."
    covered = int(known["covered"].astype(bool).sum())
    return f"{words}; the interval covers the printed value in {covered} of the {len(known)} cells with an interval."


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
