"""Headline deltas in sentences and as a table, with their uncertainty."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd

from analysis.evaluations.frames import headline_blocks
from analysis.output.deltas_text import p_text
from analysis.page.payload import shown_pairs
from analysis.page.results import VARIANT, Results
from analysis.page.section import Content
from analysis.paired.pairing import DEPTH
from analysis.paired.table import delta_cells
from analysis.words import counted
from jobs.specs.base import ALL

COVERS = (
    "Intervals are 95 % paired t intervals over seeds. They cover the noise of the random subset and of fine-tuning, "
    "given one checkpoint per source and a fixed test set; they say nothing about other checkpoints."
)


_NO_BASELINE = (
    "No headline deltas: no study declared a contrast, and the results do not determine which of {} is the baseline. "
    "The curves compare any two of them; `deltasweep deltas --baseline NAME` lists all deltas from one baseline."
)
_ONE_SOURCE = "Deltas need trials of two sources; these results have only one."


def contents(results: Results) -> Iterator[Content]:
    if not results.data.empty:
        values = _values(results) if results.comparisons or results.depths else {"why_none": _why_none(results)}
        yield Content(title="Headline deltas", template="headlines.html", values=values)


def _why_none(results: Results) -> str:
    if shown_pairs(results.data, []):
        return _NO_BASELINE.format(", ".join(results.sources))
    return results.why_no_comparisons or _ONE_SOURCE


def _values(results: Results) -> dict[str, Any]:
    cells = delta_cells(results.data, [*results.comparisons, *results.depths], results.contrasts, epoch=None)
    cells = cells.merge(results.data[[*VARIANT, "variant"]].drop_duplicates(), how="left")
    shown = headline_cells(cells, headline_blocks(results.data))
    return {
        "headlines": headlines(shown),
        "notes": " ".join(filter(None, [unpaired(cells), COVERS])),
        "columns": HEADLINE_COLUMNS,
        "rows": headline_rows(shown),
        "right": frozenset(HEADLINE_COLUMNS) - {"source", "baseline", "dataset", "Holm family", "trials"},
    }


class Headline(NamedTuple):
    """A summary of the deltas of one comparison at some blocks and epoch."""

    what: str
    where: str
    """Blocks and epoch, and whether a study declared the comparison."""
    verdict: str
    parts: tuple[str, ...]
    """One sentence per dataset: its smallest and its largest size with an interval, each with its longest trials."""


_LAST = "last"
_HEADLINE = ["source", "baseline", "variant", "blocks", DEPTH, "at"]


def headline_cells(cells: pd.DataFrame, blocks: int) -> pd.DataFrame:
    """Return the cells of headlines: declared contrasts at their blocks and epoch, all comparisons at the last epoch.

    Adds ``at``: ``last``, or the number of the epoch. Declared comparisons come first.

    Args:
        cells: ``delta_cells`` with ``variant``; cells without a pair are left out.
        blocks: for the comparisons that are not declared.
    """
    at = cells["epoch"].astype(str).where(cells["epoch"] != cells["epochs"], _LAST)
    chosen = (cells["n_pairs"] > 0) & (cells["declared"] | ((cells["blocks"] == blocks) & (at == _LAST)))
    shown = cells.assign(at=at)[chosen]
    first = ~shown.groupby(_HEADLINE)["declared"].transform("any").astype(bool)
    order = ["_later", "source", "baseline", "variant", "blocks", DEPTH, "epoch", "dataset", "images_used"]
    return shown.assign(_later=first).sort_values(order, kind="stable", ignore_index=True).drop(columns="_later")


def headlines(shown: pd.DataFrame) -> list[Headline]:
    """Return one headline per comparison, variant, blocks and epoch of ``headline_cells``."""
    several = shown["variant"].nunique() > 1
    shown_headlines = []
    for _, group in shown.groupby(_HEADLINE, sort=False):
        first = group.iloc[0]
        what = _arms(first["source"], first["baseline"], first["blocks"], first[DEPTH])
        what += f" ({first['variant']})" if several else ""
        when = "last epoch" if first["at"] == _LAST else f"epoch {first['at']}"
        depth = _tuned(first["blocks"]) if first[DEPTH] == first["blocks"] else ""
        where = ", ".join(filter(None, [depth, when, _declared(group)]))
        shown_headlines.append(Headline(what, where, _count(group), tuple(_datasets(group))))
    return shown_headlines


def _arms(source: str, baseline: str, blocks: int, of_baseline: int) -> str:
    if of_baseline == blocks:
        return f"{source} minus {baseline}"
    return f"{source}: {_tuned(blocks)} minus {_tuned(of_baseline)}"


def _tuned(blocks: int) -> str:
    return {0: "FC layer only", ALL: "all blocks", 1: "last block"}.get(blocks, f"last {blocks} blocks")


def _declared(group: pd.DataFrame) -> str:
    if not group["declared"].any():
        return ""
    return "declared in advance" if group["declared"].all() else "partly declared in advance"


def _count(group: pd.DataFrame) -> str:
    known = group[group["ci_low"].notna()]
    if known.empty:
        return "one pair per cell, so no interval"
    above, below = int((known["ci_low"] > 0).sum()), int((known["ci_high"] < 0).sum())
    count = f"the interval is above zero in {above} of {len(known)} cells and below zero in {below or 'none'}"
    corrected = known[known["p_holm"].notna()]
    differ = int((corrected["p_holm"] < 0.05).sum())
    families = " and ".join(sorted({family.replace(" asked for", "") for family in corrected["family"]}))
    correction = f"; after Holm correction over {families}, {differ} of {len(corrected)} differ at the 5 % level"
    return count + (correction if len(corrected) else "")


def _datasets(group: pd.DataFrame) -> list[str]:
    sentences = []
    for dataset, rows in group.sort_values(["images_used", "epochs"], kind="stable").groupby("dataset", sort=True):
        known = rows[rows["ci_low"].notna()]
        shown = rows if known.empty else known
        several = bool(shown.duplicated("images_used").any())
        sizes = shown.drop_duplicates("images_used", keep="last")
        ends = sizes.iloc[[0, -1]] if len(sizes) > 1 else sizes
        sentences.append(f"{dataset}: {', '.join(_point(row, several) for row in ends.to_dict('records'))}")
    return sentences


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
    "Holm family",
    "trials",
)


def headline_rows(shown: pd.DataFrame) -> list[tuple[str, ...]]:
    """Format ``headline_cells`` as a table, one row per cell."""
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
    """Return a sentence on what the deltas leave out; empty if nothing."""
    paired = cells[cells["n_pairs"] > 0]
    alone, lost = len(cells) - len(paired), int(paired["n_unpaired"].sum())
    left_out: Sequence[str] = [
        *([f"{counted(lost, 'trial')} without a partner in the other arm of the cell"] if lost else []),
        *([f"{counted(alone, 'cell')} with only one arm"] if alone else []),
    ]
    return f"Not included in any delta: {'; '.join(left_out)}." if left_out else ""
