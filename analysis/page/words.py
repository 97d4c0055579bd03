"""Headline deltas in words: what the numbers say, and how sure they are."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from analysis.delta_text import p_text
from analysis.words import counted
from jobs.specs import ALL

COVERS = (
    "Intervals are 95 % paired t intervals over seeds. They cover the noise of the random subset and of fine-tuning, "
    "given one checkpoint per source and a fixed test set; they do not say what another checkpoint would do."
)


class Headline(NamedTuple):
    """What the deltas of one comparison say."""

    what: str
    verdict: str
    parts: tuple[str, ...]
    """One sentence a dataset: its smallest and its largest size with an interval."""


def headlines(cells: pd.DataFrame, blocks: int) -> list[Headline]:
    """One headline a comparison and origin, from the deltas of the last epoch at some blocks."""
    shown = cells[(cells["blocks"] == blocks) & (cells["n_pairs"] > 0)]
    several = shown["variant"].nunique() > 1
    made = []
    for (source, baseline, variant), group in shown.groupby(["source", "baseline", "variant"], sort=False):
        what = f"{source} minus {baseline}" + (f" ({variant})" if several else "")
        made.append(Headline(what, _count(group), tuple(_datasets(group))))
    return made


def _count(group: pd.DataFrame) -> str:
    known = group[group["ci_low"].notna()]
    if known.empty:
        return "one pair a cell, so no interval"
    above, below = int((known["ci_low"] > 0).sum()), int((known["ci_high"] < 0).sum())
    count = f"the interval lies above zero in {above} of {len(known)} cells, below in {below or 'none'}"
    holm = known["p_holm"].dropna()
    differ = int((holm < 0.05).sum())
    return count + (f"; after Holm's correction {differ} of {len(holm)} differ at the 5 % level" if len(holm) else "")


def _datasets(group: pd.DataFrame) -> list[str]:
    said = []
    for dataset, rows in group.sort_values("images_used").groupby("dataset", sort=True):
        known = rows[rows["ci_low"].notna()]
        shown = rows if known.empty else known
        ends = shown.iloc[[0, -1]] if len(shown) > 1 else shown
        said.append(f"{dataset}: {', '.join(_point(row) for row in ends.to_dict('records'))}")
    return said


def _point(row: dict[Any, Any]) -> str:
    size = "all images" if row["images"] == ALL else f"{row['images']:,} images"
    interval = (
        "one pair" if pd.isna(row["ci_low"]) else f"{row['ci_low']:+.2f} to {row['ci_high']:+.2f}, n = {row['n_pairs']}"
    )
    return f"{row['mean_delta']:+.2f} points at {size} ({interval})"


HEADLINE_COLUMNS = (
    "source",
    "baseline",
    "dataset",
    "images",
    "n",
    "delta",
    "95 % interval",
    "simultaneous",
    "p (Holm)",
    "trials",
)


def headline_rows(cells: pd.DataFrame, blocks: int) -> list[tuple[str, ...]]:
    """The same as a table, one row a cell."""
    shown = cells[(cells["blocks"] == blocks) & (cells["n_pairs"] > 0)]
    ordered = shown.sort_values(["source", "baseline", "variant", "dataset", "images_used"], kind="stable")
    return [_row(row) for row in ordered.to_dict("records")]


def _row(row: dict[Any, Any]) -> tuple[str, ...]:
    size = "all" if row["images"] == ALL else f"{row['images']:,}"
    intervals = (_interval(row, ""), _interval(row, "_simultaneous"))
    names = (row["source"], row["baseline"], row["dataset"], size, str(row["n_pairs"]))
    return (*names, f"{row['mean_delta']:+.2f}", *intervals, p_text(row["p_holm"]), row["variant"])


def _interval(row: dict[Any, Any], suffix: str) -> str:
    low, high = row[f"ci_low{suffix}"], row[f"ci_high{suffix}"]
    return "" if pd.isna(low) else f"{low:+.2f} to {high:+.2f}"


def unpaired(cells: pd.DataFrame) -> str:
    """What the deltas leave out, or nothing."""
    paired = cells[cells["n_pairs"] > 0]
    alone, lost = len(cells) - len(paired), int(paired["n_unpaired"].sum())
    told: Sequence[str] = [
        *([f"{counted(lost, 'trial')} without a partner in the other arm of the cell"] if lost else []),
        *([f"{counted(alone, 'cell')} with one arm only"] if alone else []),
    ]
    return f"Not in any delta: {'; '.join(told)}." if told else ""
