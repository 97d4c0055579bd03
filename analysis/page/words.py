"""Headline deltas in words: what the numbers say, and how sure they are."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from analysis.delta_text import p_text
from analysis.pairing import DEPTH
from analysis.words import counted
from jobs.specs import ALL

COVERS = (
    "Intervals are 95 % paired t intervals over seeds. They cover the noise of the random subset and of fine-tuning, "
    "given one checkpoint per source and a fixed test set; they do not say what another checkpoint would do."
)


class Headline(NamedTuple):
    """What the deltas of one comparison say, at some blocks and epoch."""

    what: str
    where: str
    """Blocks and epoch, and whether a study declared the comparison."""
    verdict: str
    parts: tuple[str, ...]
    """One sentence a dataset: its smallest and its largest size with an interval, each by its longest trials."""


_LAST = "last"
_HEADLINE = ["source", "baseline", "variant", "blocks", DEPTH, "at"]


def headline_cells(cells: pd.DataFrame, blocks: int) -> pd.DataFrame:
    """The cells of headlines: declared contrasts at their blocks and epoch, and all comparisons at the last epoch.

    Adds ``at``: ``last``, or the number of the epoch. Declared comparisons come first.

    Args:
        cells: ``delta_cells`` with ``variant``; those without a pair are left out.
        blocks: of the comparisons that nobody declared.
    """
    at = cells["epoch"].astype(str).where(cells["epoch"] != cells["epochs"], _LAST)
    chosen = (cells["n_pairs"] > 0) & (cells["declared"] | ((cells["blocks"] == blocks) & (at == _LAST)))
    shown = cells.assign(at=at)[chosen]
    first = ~shown.groupby(_HEADLINE)["declared"].transform("any").astype(bool)
    order = ["_later", "source", "baseline", "variant", "blocks", DEPTH, "epoch", "dataset", "images_used"]
    return shown.assign(_later=first).sort_values(order, kind="stable", ignore_index=True).drop(columns="_later")


def headlines(shown: pd.DataFrame) -> list[Headline]:
    """One headline a comparison, origin, blocks and epoch of ``headline_cells``."""
    several = shown["variant"].nunique() > 1
    made = []
    for _, group in shown.groupby(_HEADLINE, sort=False):
        one = group.iloc[0]
        what = _arms(one["source"], one["baseline"], one["blocks"], one[DEPTH])
        what += f" ({one['variant']})" if several else ""
        when = "last epoch" if one["at"] == _LAST else f"epoch {one['at']}"
        depth = _tuned(one["blocks"]) if one[DEPTH] == one["blocks"] else ""
        where = ", ".join(filter(None, [depth, when, _declared(group)]))
        made.append(Headline(what, where, _count(group), tuple(_datasets(group))))
    return made


def _arms(source: str, baseline: str, blocks: int, of_baseline: int) -> str:
    if of_baseline == blocks:
        return f"{source} minus {baseline}"
    return f"{source}: {_tuned(blocks)} minus {_tuned(of_baseline)}"


def _tuned(blocks: int) -> str:
    return {0: "FC layer only", ALL: "all blocks", 1: "last block"}.get(blocks, f"last {blocks} blocks")


def _declared(group: pd.DataFrame) -> str:
    if not group["declared"].any():
        return ""
    return "declared beforehand" if group["declared"].all() else "in part declared beforehand"


def _count(group: pd.DataFrame) -> str:
    known = group[group["ci_low"].notna()]
    if known.empty:
        return "one pair a cell, so no interval"
    above, below = int((known["ci_low"] > 0).sum()), int((known["ci_high"] < 0).sum())
    count = f"the interval lies above zero in {above} of {len(known)} cells, below in {below or 'none'}"
    corrected = known[known["p_holm"].notna()]
    differ = int((corrected["p_holm"] < 0.05).sum())
    families = " and ".join(sorted({family.replace(" asked for", "") for family in corrected["family"]}))
    said = f"; after Holm's correction over {families}, {differ} of {len(corrected)} differ at the 5 % level"
    return count + (said if len(corrected) else "")


def _datasets(group: pd.DataFrame) -> list[str]:
    said = []
    for dataset, rows in group.sort_values(["images_used", "epochs"], kind="stable").groupby("dataset", sort=True):
        known = rows[rows["ci_low"].notna()]
        shown = rows if known.empty else known
        several = bool(shown.duplicated("images_used").any())
        sizes = shown.drop_duplicates("images_used", keep="last")
        ends = sizes.iloc[[0, -1]] if len(sizes) > 1 else sizes
        said.append(f"{dataset}: {', '.join(_point(row, several) for row in ends.to_dict('records'))}")
    return said


def _point(row: dict[Any, Any], of_several_lengths: bool) -> str:
    size = "all images" if row["images"] == ALL else f"{row['images']:,} images"
    size += f", {row['epochs']} epochs" if of_several_lengths else ""
    interval = (
        "one pair" if pd.isna(row["ci_low"]) else f"{row['ci_low']:+.2f} to {row['ci_high']:+.2f}, n = {row['n_pairs']}"
    )
    return f"{row['mean_delta']:+.2f} points at {size} ({interval})".replace("-", "\N{MINUS SIGN}")


HEADLINE_COLUMNS = (
    "source",
    "baseline",
    "blocks",
    "epoch",
    "dataset",
    "images",
    "n",
    "delta",
    "95 % interval",
    "simultaneous",
    "p (Holm)",
    "Holm over",
    "trials",
)


def headline_rows(shown: pd.DataFrame) -> list[tuple[str, ...]]:
    """``headline_cells`` as a table, one row a cell."""
    return [_row(row) for row in shown.to_dict("records")]


def _row(row: dict[Any, Any]) -> tuple[str, ...]:
    size = "all" if row["images"] == ALL else f"{row['images']:,}"
    intervals = (_interval(row, ""), _interval(row, "_simultaneous"))
    depths = ["all" if depth == ALL else str(depth) for depth in dict.fromkeys([row["blocks"], row[DEPTH]])]
    blocks = " minus ".join(depths)
    names = (row["source"], row["baseline"], blocks, str(row["epoch"]), row["dataset"], size, str(row["n_pairs"]))
    family = "" if pd.isna(row["family"]) or pd.isna(row["p_holm"]) else row["family"].replace(" asked for", "")
    return (*names, f"{row['mean_delta']:+.2f}", *intervals, p_text(row["p_holm"]), family, row["variant"])


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
