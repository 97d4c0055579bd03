"""Table 7: mean test accuracy of every source on every dataset and size."""

from functools import cache
from importlib import resources

import pandas as pd

from analysis.frames import at_epoch, main_lengths
from analysis.tables.model import Table
from jobs.specs import ALL

BLOCKS = 3
"""Table 7 fine-tunes three blocks; a source trained from random initialisation (blocks -1) stands beside."""

_VARIANT = ["origin", "recipe", "numerics"]
_CELL = [*_VARIANT, "dataset", "images"]
_OF_SOURCE = ["images_used", "source", "blocks"]


@cache
def printed() -> pd.DataFrame:
    """Table 7 as printed: dataset, images (-1: all), source, test accuracy in percent (``printed``)."""
    file = resources.files("analysis").joinpath("templates", "table7.csv")
    with file.open(encoding="utf-8") as text:
        wide = pd.read_csv(text)
    return wide.melt(["dataset", "images"], var_name="source", value_name="printed")


def means(data: pd.DataFrame, blocks: int = BLOCKS) -> pd.DataFrame:
    """``means_by_length`` of the length that most trials of a cell have."""
    return main_lengths(means_by_length(data, blocks), [*_CELL, *_OF_SOURCE], "n")


def means_by_length(data: pd.DataFrame, blocks: int = BLOCKS) -> pd.DataFrame:
    """Mean test accuracy (percent) after the last epoch, its standard deviation and ``n``, by cell, source and
    ``epochs``.

    Trials of all blocks (-1) are taken along: they are the paper's random initialisation.
    """
    wanted = data[data["blocks"].isin([blocks, ALL])]
    last = at_epoch(wanted, "last").sort_values("trial_id")
    groups = last.groupby([*_CELL, *_OF_SOURCE, "epochs"], as_index=False)
    return groups.agg(mean=("test_accuracy", "mean"), sd=("test_accuracy", "std"), n=("test_accuracy", "size"))


def table7(data: pd.DataFrame) -> Table:
    """One row a dataset and size, one column a source; the best source of a row in bold."""
    found = means(data, _blocks(data))
    names = _ordered(found["source"])
    columns = {name: f"{name} (all blocks)" if _only_all(found, name) else name for name in names}
    cells = found.sort_values("blocks").drop_duplicates([*_CELL, "source"], keep="last")
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
        title=f"Mean test accuracy (%) after fine-tuning {_blocks(data)} blocks",
        columns=(*fixed, *columns.values()),
        rows=rows,
        numbers=frozenset({"numerics", "images", *columns.values()}),
        best=frozenset((int(str(index)), name) for index, name in best),
        notes=(_counted(found),),
    )


def _blocks(data: pd.DataFrame) -> int:
    present = set(data["blocks"])
    return BLOCKS if BLOCKS in present else int(max(present))


def _only_all(found: pd.DataFrame, source: str) -> bool:
    return set(found.loc[found["source"] == source, "blocks"]) == {ALL}


def _ordered(names: "pd.Series[str]") -> list[str]:
    """The paper's columns first, in its order, then others by name."""
    paper = list(dict.fromkeys(printed()["source"]))
    present = set(names)
    return [name for name in paper if name in present] + sorted(present - set(paper))


def _counted(found: pd.DataFrame) -> str:
    low, high = int(found["n"].min()), int(found["n"].max())
    return (
        f"Means of {low} seeds a cell, last epoch."
        if low == high
        else f"Means of {low} to {high} seeds a cell, last epoch."
    )


def _text(value: object) -> str:
    return "all" if value == ALL else f"{value:,}" if isinstance(value, int) else str(value)


def _percent(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.2f}"
