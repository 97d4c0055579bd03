"""Own means beside Table 7 of the paper: the difference, and whether the interval covers it, where recipe and length
are those of the table; where they are not, in what they differ.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from analysis.likeness import NOT_COMPARED, PUBLISHED, listed, other_choices, other_length, published_epochs
from analysis.recipes import Choices, in_words
from analysis.tables.accuracy import BLOCKS, means_by_length, printed
from analysis.tables.model import Table
from analysis.words import counted
from jobs.specs import ALL

CONFIDENCE = 0.95


def against_paper(data: pd.DataFrame, recipes: Mapping[str, Choices]) -> pd.DataFrame:
    """One row a cell of Table 7 that the results have, per origin, recipe, numerics and length.

    Columns: ``mean``, ``low``, ``high`` (t interval of the mean over seeds, percent), ``n``, ``epochs``, ``printed``
    (percent), ``difference`` (percentage points, own minus printed), ``unlike`` (in what the trials are not those of
    the table; empty: in nothing that is known), ``covered`` (None without an interval, and for trials that are
    unlike). The interval does not know the noise of the printed mean itself, so somewhat fewer than 95 % would cover
    even in an exact repetition.

    Args:
        data: evaluations, of any recipes.
        recipes: the choices of recorded recipes, by digest. Those of imported trials nobody recorded.
    """
    found = means_by_length(data)
    found = found[(found["blocks"] == BLOCKS) | (found["source"] == "random_init")]
    both = found.merge(printed(), on=["dataset", "images", "source"], how="inner")
    freedom = np.where(both["n"] > 1, both["n"] - 1, np.nan)
    half = special.stdtrit(freedom, (1 + CONFIDENCE) / 2) * both["sd"] / np.sqrt(both["n"])
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
    """``against_paper`` ready to be written.

    Args:
        words: of recipes, by digest, where there are several.
    """
    found = against_paper(data, recipes)
    varying = [name for name in ("origin", "recipe", "numerics") if found[name].nunique() > 1]
    rows = tuple(_row(row, varying) for row in found.assign(recipe=in_words(found["recipe"], words)).to_dict("records"))
    return Table(
        name="table7-comparison",
        title="Own mean test accuracy beside Table 7 of the paper",
        columns=(
            *varying,
            "dataset",
            "images",
            "source",
            "epochs",
            "own (%)",
            "95 % interval",
            "n",
            "paper (%)",
            "difference",
            "covered",
            "unlike the paper's (paper's)",
        ),
        rows=rows,
        numbers=frozenset({"numerics", "images", "epochs", "own (%)", "95 % interval", "n", "paper (%)", "difference"}),
        notes=summary(found),
    )


def summary(found: pd.DataFrame) -> tuple[str, ...]:
    """The comparison in sentences: own trials and imported ones apart, and what was not compared."""
    if found.empty:
        return ("The results have no cell of Table 7 (its datasets, sizes and sources, 3 blocks fine-tuned).",)
    like = found[found["unlike"] == ""]
    imported = like["origin"] == "imported"
    said = [_agreement(like[~imported], f"own trials, by the recipe {PUBLISHED} and of the table's lengths")]
    if (found["origin"] == "imported").any():
        said.append(_agreement(like[imported], "imported trials of the table's lengths (their recipe is not recorded)"))
    unlike = found[found["unlike"] != ""]
    if not unlike.empty:
        differences = ", ".join(listed(unlike["unlike"]))
        many = counted(len(unlike), "cell")
        said.append(
            f"Not compared: {many} of another recipe or length, shown for themselves (in brackets: {PUBLISHED}, and "
            f"100 epochs to 1,600 images, 150 above): {differences}."
        )
    return (*said, NOT_COMPARED)


def _agreement(like: pd.DataFrame, which: str) -> str:
    if like.empty:
        return f"No cell of Table 7 has {which}."
    largest = like["difference"].abs().max()
    words = (
        f"{counted(len(like), 'cell')} of Table 7: {which}; the largest difference is {largest:.2f} percentage points"
    )
    known = like[like["covered"].notna()]
    if known.empty:
        return f"{words}; no cell has two seeds, so none has an interval."
    covered = int(known["covered"].astype(bool).sum())
    return f"{words}; the interval covers the printed figure in {covered} of the {len(known)} cells that have one."


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
