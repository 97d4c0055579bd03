"""Own means beside Table 7 of the paper: the difference, and whether the interval covers it."""

from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from analysis.tables.accuracy import BLOCKS, means, printed
from analysis.tables.model import Table
from analysis.words import counted
from jobs.specs import ALL

CONFIDENCE = 0.95


def against_paper(data: pd.DataFrame) -> pd.DataFrame:
    """One row a cell of Table 7 that the results have, per origin, recipe and numerics.

    Columns: ``mean``, ``low``, ``high`` (t interval of the mean over seeds, percent), ``n``, ``printed`` (percent),
    ``difference`` (percentage points, own minus printed), ``covered`` (None without an interval). The interval does not
    know the noise of the printed mean itself, so somewhat fewer than 95 % would cover even in an exact repetition.
    """
    found = means(data)
    found = found[(found["blocks"] == BLOCKS) | (found["source"] == "random_init")]
    both = found.merge(printed(), on=["dataset", "images", "source"], how="inner")
    freedom = np.where(both["n"] > 1, both["n"] - 1, np.nan)
    half = special.stdtrit(freedom, (1 + CONFIDENCE) / 2) * both["sd"] / np.sqrt(both["n"])
    table = both.assign(low=both["mean"] - half, high=both["mean"] + half, difference=both["mean"] - both["printed"])
    inside = (table["low"] <= table["printed"]) & (table["printed"] <= table["high"])
    table["covered"] = inside.astype(object).where(table["low"].notna(), None)
    order = ["origin", "recipe", "numerics", "images_used", "dataset", "source"]
    return table.sort_values(order, ignore_index=True)


def comparison_table(data: pd.DataFrame) -> Table:
    """``against_paper`` ready to be written."""
    found = against_paper(data)
    varying = [name for name in ("origin", "recipe", "numerics") if found[name].nunique() > 1]
    rows = tuple(_row(row, varying) for row in found.to_dict("records"))
    return Table(
        name="table7-comparison",
        title="Own mean test accuracy beside Table 7 of the paper",
        columns=(
            *varying,
            "dataset",
            "images",
            "source",
            "own (%)",
            "95 % interval",
            "n",
            "paper (%)",
            "difference",
            "covered",
        ),
        rows=rows,
        numbers=frozenset({"numerics", "images", "own (%)", "95 % interval", "n", "paper (%)", "difference"}),
        notes=(summary(found),),
    )


def summary(found: pd.DataFrame) -> str:
    """The comparison in one sentence or two."""
    if found.empty:
        return "The results have no cell of Table 7 (its datasets, sizes and sources, 3 blocks fine-tuned)."
    largest = found["difference"].abs().max()
    known = found[found["covered"].notna()]
    words = f"{counted(len(found), 'cell')} of Table 7; the largest difference is {largest:.2f} percentage points"
    if known.empty:
        return f"{words}; no cell has two seeds, so none has an interval."
    covered = int(known["covered"].astype(bool).sum())
    return f"{words}; the interval covers the printed figure in {covered} of the {len(known)} cells that have one."


def _row(row: dict[Any, Any], varying: list[str]) -> tuple[str, ...]:
    size = "all" if row["images"] == ALL else f"{row['images']:,}"
    interval = "" if row["covered"] is None else f"{row['low']:.2f} to {row['high']:.2f}"
    covered = {None: "", True: "yes", False: "no"}[None if row["covered"] is None else bool(row["covered"])]
    numbers = (
        f"{row['mean']:.2f}",
        interval,
        str(row["n"]),
        f"{row['printed']:.2f}",
        f"{round(row['difference'], 2) + 0.0:+.2f}",
        covered,
    )
    return (*(str(row[name]) for name in varying), str(row["dataset"]), size, str(row["source"]), *numbers)
