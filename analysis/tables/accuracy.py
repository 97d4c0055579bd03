"""Table 7: mean test accuracy of every source on every dataset and subset size."""

import pandas as pd

from analysis.evaluations.frames import HEADLINE_BLOCKS, at_epoch, headline_blocks
from analysis.tables.model import Table
from analysis.tables.published import printed
from jobs.specs.base import ALL

_VARIANT = ["origin", "recipe", "numerics", "length"]
_CELL = [*_VARIANT, "dataset", "images"]
_OF_SOURCE = ["images_used", "source", "blocks"]


def means(data: pd.DataFrame, blocks: int = HEADLINE_BLOCKS) -> pd.DataFrame:
    """Return mean test accuracy (percent) after the last epoch, its standard deviation, and ``n``.

    Groups are cells, sources and ``epochs``. Trials of all blocks (-1) are included: they are the paper's random
    initialization.
    """
    wanted = data[data["blocks"].isin([blocks, ALL])]
    last = at_epoch(wanted, "last").sort_values("trial_id")
    groups = last.groupby([*_CELL, *_OF_SOURCE, "epochs"], as_index=False)
    return groups.agg(mean=("test_accuracy", "mean"), sd=("test_accuracy", "std"), n=("test_accuracy", "size"))


def table7(data: pd.DataFrame) -> Table:
    """Return one row per dataset and size with one column per source; the best source of a row is in bold."""
    accuracies = means(data, headline_blocks(data))
    names = _ordered(accuracies["source"])
    columns = {name: f"{name} (all blocks)" if _only_all(accuracies, name) else name for name in names}
    cells = accuracies.sort_values("blocks").drop_duplicates([*_CELL, "source"], keep="last")
    wide = cells.pivot(index=[*_CELL, "images_used"], columns="source", values="mean")
    wide = wide.reset_index().sort_values([*_VARIANT, "images_used", "dataset"], ignore_index=True)
    varying = [name for name in _VARIANT if wide[name].nunique() > 1]
    fixed = [*varying, "dataset", "images"]
    rows = tuple(
        (*(_text(row[name]) for name in fixed), *(_percent(row[name]) for name in names))
        for row in wide.to_dict("records")
    )
    best = frozenset((index, columns[str(values.idxmax())]) for index, values in wide[names].iterrows())
    return Table(
        name="table7",
        title=f"Mean test accuracy (%) after fine-tuning; fine-tuned blocks: {headline_blocks(data)}",
        columns=(*fixed, *columns.values()),
        rows=rows,
        numbers=frozenset({"numerics", "images", *columns.values()}),
        best=frozenset((int(str(index)), name) for index, name in best),
        notes=(_counted(accuracies),),
    )


def _only_all(accuracies: pd.DataFrame, source: str) -> bool:
    return set(accuracies.loc[accuracies["source"] == source, "blocks"]) == {ALL}


def _ordered(names: "pd.Series[str]") -> list[str]:
    """Return the paper's columns in its order, then the others by name."""
    paper = list(dict.fromkeys(printed()["source"]))
    present = set(names)
    return [name for name in paper if name in present] + sorted(present - set(paper))


def _counted(accuracies: pd.DataFrame) -> str:
    low, high = int(accuracies["n"].min()), int(accuracies["n"].max())
    return (
        f"Means over seeds after the last epoch; seeds per cell: {low}."
        if low == high
        else f"Means over seeds after the last epoch; seeds per cell: {low} to {high}."
    )


def _text(value: object) -> str:
    return "all" if value == ALL else f"{value:,}" if isinstance(value, int) else str(value)


def _percent(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.2f}"
