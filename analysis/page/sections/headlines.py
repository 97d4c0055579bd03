"""Headline deltas in sentences and as a table, with their uncertainty."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import pandas as pd

from analysis.evaluations.frames import headline_blocks
from analysis.evaluations.lengths import length_of
from analysis.figures.drawing.style import Look
from analysis.output.deltas_text import p_text
from analysis.page.forest import Forest, forest, svg
from analysis.page.payload import shown_pairs
from analysis.page.results import Results, variants
from analysis.page.section import Content
from analysis.page.sentences import Cell, sentence
from analysis.paired.contrasts import Declared
from analysis.paired.diverged import diverged_among
from analysis.paired.pairing import DEPTH
from analysis.paired.studies import CELL as PLANNED
from analysis.paired.table import cells_and_pairs
from analysis.paired.unpaired import without_pair, without_partner
from analysis.words import depth_text, in_a_sentence, size_text
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
        compared = results.comparisons or results.depths
        values: dict[str, Any] = _values(results) if compared else {"findings": [], "why_none": _why_none(results)}
        drawings = {one.name: svg(one.plot) for one in values["findings"] if one.plot is not None}
        yield Content(title="Headline deltas", template="headlines.html", values=values, drawings=drawings)


def _why_none(results: Results) -> str:
    if shown_pairs(results.data, []):
        return _NO_BASELINE.format(", ".join(results.sources))
    return results.why_no_comparisons or _ONE_SOURCE


def _values(results: Results) -> dict[str, Any]:
    chosen = [*results.comparisons, *results.depths]
    cells, pairs = cells_and_pairs(results.data, chosen, results.contrasts, epoch=None)
    cells = length_of(cells, results.data, "variant")
    shown = headline_cells(cells, results.contrasts)
    found = [*headlines(shown, results.contrasts), *not_begun(shown, results.contrasts)]
    return {
        "findings": list(_findings(found, results.looks["source"])),
        "rising": still_rising(results.data),
        "left_out": in_a_sentence([*left_out(cells), *diverged_among(pairs, results.evaluations)]),
        "covers": COVERS,
        "columns": HEADLINE_COLUMNS,
        "rows": headline_rows(shown),
        "right": frozenset(HEADLINE_COLUMNS) - {"source", "baseline", "dataset", "Holm family", "trials"},
    }


class Headline(NamedTuple):
    """The deltas of one comparison at some blocks and epoch."""

    what: str
    where: str
    """Blocks and epoch, and whether a study declared the comparison."""
    declared: bool
    """Whether a study declared any of the cells."""
    sentence: str
    cells: pd.DataFrame
    """Those with pairs."""


class Findings(NamedTuple):
    """A forest plot and its sentences."""

    name: str
    """Of the plot and its file."""
    plot: Forest | None
    """None if no cell has a pair."""
    headlines: list[Headline]


class _Arms(NamedTuple):
    """What a headline compares: values of ``_ARMS``."""

    source: str
    baseline: str
    blocks: int
    of_baseline: int
    at: str

    @property
    def what(self) -> str:
        if self.of_baseline == self.blocks:
            return f"{self.source} minus {self.baseline}"
        return f"{self.source}: {depth_text(self.blocks)} minus {depth_text(self.of_baseline)}"

    @property
    def where(self) -> str:
        when = "last epoch" if self.at == _LAST else f"epoch {self.at}"
        return f"{depth_text(self.blocks)}, {when}" if self.of_baseline == self.blocks else when


_LAST, _DECLARED = "last", "declared in advance"
_ARMS = ["source", "baseline", "blocks", DEPTH, "at"]
_HEADLINE = [*_ARMS, "variant"]
_EPOCHS = PLANNED.index("epochs")


def headline_cells(cells: pd.DataFrame, contrasts: Declared) -> pd.DataFrame:
    """Return the cells of headlines: declared contrasts at their blocks and epoch, all comparisons at the last epoch.

    A comparison that is not declared is shown at three blocks, or else at its largest number with pairs. Adds ``at``:
    ``last``, or the number of the epoch. Declared comparisons come first, in the order of ``Declared.planned``: a plot
    of many comparisons leaves out the last ones.

    Args:
        cells: ``delta_cells`` with ``variant``.
    """
    cells = cells.assign(at=cells["epoch"].astype(str).where(cells["epoch"] != cells["epochs"], _LAST))
    shown = cells[cells["declared"] | ((cells["at"] == _LAST) & (cells["blocks"] == _depths(cells)))]
    first = ~shown.groupby(_HEADLINE)["declared"].transform("any").astype(bool)
    places = {variant: place for place, variant in enumerate(variants(shown))}
    turns = {arms: turn for turn, arms in enumerate(_planned(contrasts))}
    turn = [turns.get(_Arms(*arms), len(turns)) for arms in shown[_ARMS].itertuples(index=False, name=None)]
    order = ["_later", "_turn", "source", "baseline", "_place", "blocks", DEPTH, "epoch", "dataset", "images_used"]
    placed = shown.assign(_later=first, _turn=turn, _place=shown["variant"].map(places))
    return placed.sort_values(order, kind="stable", ignore_index=True).drop(columns=["_later", "_turn", "_place"])


def _depths(cells: pd.DataFrame) -> "pd.Series[int]":
    """Return for each cell the blocks at which its comparison and variant is shown; those of its own for two depths."""
    depths = cells["blocks"].copy()
    last = cells[(cells["at"] == _LAST) & (cells["blocks"] == cells[DEPTH])]
    for _, of in last.groupby(["source", "baseline", "variant"]):
        paired = of.loc[of["n_pairs"] > 0, "blocks"]
        depths[of.index] = headline_blocks(paired if len(paired) else of["blocks"])
    return depths


def headlines(shown: pd.DataFrame, contrasts: Declared) -> list[Headline]:
    """Return one headline per comparison, variant, blocks and epoch of ``headline_cells``.

    A cell that the study plans and of which no trial has finished counts in the first headline of its comparison and
    recipe that has cells of its length; if none has, in the first.
    """
    several = shown["variant"].nunique() > 1 or bool((shown["length"] != "").any())
    waiting = _waiting(shown, contrasts)
    found = []
    for _, group in shown.groupby(_HEADLINE, sort=False):
        arms = _Arms(*(group[name].iloc[0] for name in _ARMS))
        variant = group["variant"].iloc[0]
        found.append(
            Headline(
                arms.what + (f" ({variant})" if several else ""),
                ", ".join([arms.where, *_in_advance(group["declared"])]),
                bool(group["declared"].any()),
                sentence(group, waiting.get((arms, variant), ())),
                group[group["n_pairs"] > 0],
            )
        )
    return found


def not_begun(shown: pd.DataFrame, contrasts: Declared) -> list[Headline]:
    """Return a headline for each declared contrast of which no trial with a recipe of the study has finished."""
    begun = set(shown[[*_ARMS, "recipe"]].itertuples(index=False, name=None))
    return [
        Headline(arms.what, f"{arms.where}, {_DECLARED}", True, sentence(shown.iloc[:0], waiting), shown.iloc[:0])
        for arms, cells in _planned(contrasts).items()
        if (waiting := [cell for cell in sorted(cells, key=str) if (*arms, cell[-1]) not in begun])
    ]


def _waiting(shown: pd.DataFrame, contrasts: Declared) -> dict[tuple[_Arms, str], list[Cell]]:
    """Return the planned cells without a trial, by the comparison and the variant in whose headline they count."""
    places: dict[tuple[object, ...], list[tuple[set[object], str]]] = {}
    begun: dict[_Arms, set[Cell]] = {}
    for _, cells in shown.groupby([*_ARMS, "recipe", "variant"], sort=False):
        arms = _Arms(*(cells[name].iloc[0] for name in _ARMS))
        recipe, variant = cells["recipe"].iloc[0], cells["variant"].iloc[0]
        places.setdefault((arms, recipe), []).append((set(cells["epochs"]), variant))
        begun.setdefault(arms, set()).update(cells[list(PLANNED)].itertuples(index=False, name=None))
    waiting: dict[tuple[_Arms, str], list[Cell]] = {}
    for arms, planned in _planned(contrasts).items():
        for cell in sorted(planned - begun.get(arms, set()), key=str):
            if found := places.get((arms, cell[-1])):
                alike = (variant for lengths, variant in found if cell[_EPOCHS] in lengths)
                waiting.setdefault((arms, next(alike, found[0][1])), []).append(cell)
    return waiting


def _planned(contrasts: Declared) -> dict[_Arms, set[Cell]]:
    """Return the cells that studies declared, values of ``PLANNED``, in the order of the contrasts."""
    cells: dict[_Arms, set[Cell]] = {}
    for one, of in contrasts.planned:
        for blocks, cell in product(one.blocks, sorted(of, key=str)):
            other = blocks if one.baseline_blocks is None else one.baseline_blocks
            at = _LAST if cell[_EPOCHS] == one.epoch else str(one.epoch)  # as in headline_cells
            cells.setdefault(_Arms(one.source, one.baseline, blocks, other, at), set()).add(cell)
    return cells


def _in_advance(declared: "pd.Series[bool]") -> list[str]:
    return [_DECLARED] if declared.all() else [f"partly {_DECLARED}"] if declared.any() else []


def _findings(found: Sequence[Headline], looks: Mapping[str, Look]) -> Iterator[Findings]:
    """Yield what studies declared, and then the rest; all in one if no declared contrast has results."""
    apart = any(one.declared and len(one.cells) for one in found)
    for name, first in (("forest", True), ("forest-others", False)):
        if part := [one for one in found if (one.declared or not apart) == first]:
            drawn = [
                (one.what, one.where, looks[one.cells["source"].iloc[0]], one.cells) for one in part if len(one.cells)
            ]
            yield Findings(name, forest(drawn) if drawn else None, part)


_RISE = 1.0
"""Percentage points between the last two evaluations from which on accuracy counts as rising."""


def still_rising(data: pd.DataFrame) -> str:
    """Return a sentence if trials ended while their mean test accuracy was rising; empty if none did.

    Args:
        data: evaluations with ``variant``.
    """
    before = data[data["epoch"] < data["epochs"]].sort_values("epoch").drop_duplicates("trial_id", keep="last")
    both = data[data["epoch"] == data["epochs"]].merge(before[["trial_id", "test_accuracy"]], on="trial_id")
    rises = both.assign(rise=both["test_accuracy_x"] - both["test_accuracy_y"])
    means = rises.groupby(["source", "dataset", "blocks", "images", "epochs", "variant"])["rise"].mean()
    count = int((means > _RISE).sum())
    if not count:
        return ""
    return (
        f"Test accuracy still rose by more than {_RISE:g} point between the last two evaluations in {count:,} of "
        f"{len(means):,} groups of trials, by up to {means.max():.1f} points: longer trials may change their deltas."
    )


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
    return [_row(row) for row in shown[shown["n_pairs"] > 0].to_dict("records")]


def _row(row: dict[Any, Any]) -> tuple[str, ...]:
    size = size_text(row["images"])
    intervals = (_interval(row, ""), _interval(row, "_simultaneous"))
    depths = ["all" if depth == ALL else str(depth) for depth in dict.fromkeys([row["blocks"], row[DEPTH]])]
    blocks = " minus ".join(depths)
    names = (row["source"], row["baseline"], blocks, str(row["epoch"]), row["dataset"], size, str(row["n_pairs"]))
    family = "" if pd.isna(row["family"]) or pd.isna(row["p_holm"]) else row["family"].replace(" asked for", "")
    return (*names, f"{row['mean_delta']:+.2f}", *intervals, p_text(row["p_holm"]), family, row["variant"])


def _interval(row: dict[Any, Any], suffix: str) -> str:
    low, high = row[f"ci_low{suffix}"], row[f"ci_high{suffix}"]
    return "" if pd.isna(low) else f"{low:+.2f} to {high:+.2f}"


def left_out(cells: pd.DataFrame) -> list[str]:
    """Return clauses on what the deltas leave out."""
    partly = int(((cells["n_pairs"] > 0) & (cells["n_unpaired"] > 0)).sum())
    return [*([without_partner(partly)] if partly else []), *without_pair(cells["no_pair"])]
