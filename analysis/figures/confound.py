"""Deltas side by side for every way of normalising images and every mode of frozen BatchNorm.

The last released code (from 16 September 2020 on) normalised the natural arm of a comparison otherwise than the robust
one; the code of the paper's numbers did not. Whether that would matter to a delta is seen where trials were run both
ways.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd

from analysis.cells import FEW_PAIRS, summarize
from analysis.comparisons import Comparison
from analysis.figures.model import BARS, POINTS, Figure, Panel
from analysis.figures.points import CONFIDENCE
from analysis.frames import at_epoch
from analysis.pairing import KEYS, pair_all
from analysis.recipes import Choices, recipe_words
from analysis.statistics.paired_t import half_width, moments
from analysis.tables.model import Table
from analysis.words import counted
from jobs.specs import ALL, Recipe

NORMALIZATIONS: tuple[str, ...] = get_args(Recipe.model_fields["normalization"].annotation)
MODES: tuple[str, ...] = get_args(Recipe.model_fields["frozen_batchnorm"].annotation)
AS_RELEASED = {"normalization": "as-released", "frozen_batchnorm": "batch"}
"""What the last released code does; changes are told against it."""

_WAY = tuple(AS_RELEASED)
_PANEL = ("source", "baseline", "dataset", "blocks", "images", "epochs", "numerics", "other")
"""What the ways of one panel have in common; ``other`` is every other choice of the recipe, as JSON."""

_PLACE = ["baseline", "source", "dataset", "blocks", "images_used", "epochs", "numerics", "other"]
"""The order of panels."""

_CAPTION = (
    "Deltas of test accuracy after the last epoch, by normalisation and by what frozen BatchNorm normalises with."
)
_MEANINGS = (
    "Normalisation as-released: by the target's mean and std for a natural source, by "
    "its own for a robust one, so that the arms differ in more than the source; source and target: both arms by one "
    "rule. BatchNorm batch: batch statistics, as released; calibrated: statistics of the trial's own subset; source: "
    "those of the source. "
)
_INTERVALS = (
    f"{_MEANINGS}Thick bars: 95 % paired t intervals, point by point; thin ones: all points of a panel at once "
    "(Bonferroni). They cover subset and fine-tuning noise, given one checkpoint per source and a fixed test set. "
    f"Small marks with dotted bars: fewer than {FEW_PAIRS} pairs, whose interval rests on normal differences; it is "
    "point by point alone, and cut at the frame where it is wide."
)
_NOTE = (
    "Change: the delta minus that of as-released normalisation with batch statistics, seed by seed, with its 95 % "
    "paired t interval; below 0 the released way had the larger delta. All at once: the ways of one comparison at one "
    "place (Bonferroni)."
)


class Confound(NamedTuple):
    """The deltas of all ways as a figure, and with how far they lie from the released one as a table."""

    figure: Figure
    table: Table


def confound(data: pd.DataFrame, chosen: Sequence[Comparison], recipes: Mapping[str, Choices]) -> Confound | None:
    """The comparisons that were made in several ways; None where there is none.

    Trials of two recipes are never averaged: each way is a cell of its own, and a panel has those that differ in
    normalisation and BatchNorm mode alone.

    Args:
        data: evaluations.
        chosen: what is compared with what.
        recipes: their choices, by digest.
    """
    cells = confound_cells(data, chosen, recipes)
    if cells.empty:
        return None
    cells = cells.assign(rest=_rest(cells))
    modes = [mode for mode in MODES if mode in set(cells["frozen_batchnorm"])]
    panels = [
        Panel(
            title=_title(group.iloc[0].to_dict()),
            quantity="delta",
            against="frozen BatchNorm",
            by="normalization",
            points=_points(group, modes),
            ticks=tuple(modes),
        )
        for _, group in cells.groupby(list(_PANEL), sort=False)
    ]
    figure = Figure(
        name="confound",
        title="Does the delta survive?",
        caption=_CAPTION,
        panels=tuple(panels),
        shades=BARS,
        intervals=_INTERVALS,
    )
    return Confound(figure, _table(cells))


def confound_cells(data: pd.DataFrame, chosen: Sequence[Comparison], recipes: Mapping[str, Choices]) -> pd.DataFrame:
    """One row a comparison, place and way, of those with several ways; maybe none.

    Columns: those of ``analysis.cells.summarize`` (simultaneous over the ways of a place), the way, and ``change`` with
    its bounds and ``n_changes``: the delta minus the released way's, seed by seed; NaN for that way, and without it.
    """
    ways = pd.DataFrame(
        [_way(digest, choices) for digest, choices in recipes.items() if _known(choices)],
        columns=["recipe", *_WAY, "other"],
    )
    if len(ways) < 2 or not chosen:
        return pd.DataFrame()
    own = at_epoch(data[(data["origin"] != "imported") & data["recipe"].isin(ways["recipe"])], "last")
    if own.empty:
        return own
    pairs, counts = pair_all(own, chosen)
    counts = counts[counts["n_pairs"] > 0].merge(ways, on="recipe")
    counts = counts[counts.groupby(list(_PANEL))["recipe"].transform("nunique") > 1]
    if counts.empty:
        return counts
    counts = counts.assign(
        _mode=counts["frozen_batchnorm"].map(MODES.index), _rule=counts["normalization"].map(NORMALIZATIONS.index)
    ).sort_values([*_PLACE, "_mode", "_rule"], kind="stable", ignore_index=True)
    pairs = pairs.merge(counts[[*KEYS, *_WAY, "other"]], on=list(KEYS))
    return summarize(pairs, counts, KEYS, _PANEL, CONFIDENCE).merge(_changes(pairs), on=list(KEYS), how="left")


def _known(choices: Choices) -> bool:
    return choices.get("normalization") in NORMALIZATIONS and choices.get("frozen_batchnorm") in MODES


def _way(digest: str, choices: Choices) -> dict[str, Any]:
    other = {key: value for key, value in choices.items() if key not in _WAY}
    return {"recipe": digest, **{key: choices[key] for key in _WAY}, "other": json.dumps(other, sort_keys=True)}


def _changes(pairs: pd.DataFrame) -> pd.DataFrame:
    """How far each delta lies from that of the released way, seed by seed: mean and interval, in percentage points."""
    released = pd.Series(True, index=pairs.index)
    for key, value in AS_RELEASED.items():
        released &= pairs[key] == value
    on = [*_PANEL, "seed"]
    both = pairs[~released].merge(pairs.loc[released, [*on, "difference"]], on=on, suffixes=("", "_released"))
    groups = both.groupby(list(KEYS), sort=True)
    table = groups.size().reset_index(name="n_changes")
    values = (both["difference"] - both["difference_released"]).to_numpy(np.float64)
    found = moments(values, groups.ngroup().to_numpy(), len(table))
    half = half_width(found, CONFIDENCE)
    return table.assign(change=found.mean, change_low=found.mean - half, change_high=found.mean + half)


def _rest(cells: pd.DataFrame) -> list[str]:
    """What tells panels apart besides the grid: other choices of the recipe, lengths, numerics."""
    others = recipe_words({other: json.loads(other) for other in cells["other"].unique()})
    said = [[others.get(other, "") for other in cells["other"]]]
    for name in ("epochs", "numerics"):
        if cells[name].nunique() > 1:
            said.append([f"{name} {value}" for value in cells[name]])
    return [", ".join(filter(None, words)) for words in zip(*said, strict=True)]


def _title(cell: Mapping[Any, Any]) -> str:
    blocks, images = (f"{_size(cell[name])} {name}" for name in ("blocks", "images"))
    what = f"{cell['source']} minus {cell['baseline']}: {cell['dataset']}"
    return ", ".join(filter(None, [what, blocks, images, cell["rest"]]))


def _size(value: int) -> str:
    return "all" if value == ALL else f"{value:,}"


def _points(cells: pd.DataFrame, modes: Sequence[str]) -> pd.DataFrame:
    """A mode's normalisations share its place."""
    made = cells.rename(columns=lambda name: name.removeprefix("ci_")).rename(
        columns={"mean_delta": "mean", "n_pairs": "n"}
    )
    return made.assign(
        series="normalization " + cells["normalization"],
        arm="",
        variant="",
        x=cells["frozen_batchnorm"].map(modes.index),
        whole=cells["images"] == ALL,
    )[list(POINTS)]


def _table(cells: pd.DataFrame) -> Table:
    rest = ["other choices"] if cells["rest"].any() else []
    numbers = (
        *("pairs", "delta", "95 % interval", "all at once"),
        *("pairs of the change", "change", "95 % interval of the change"),
    )
    columns = (
        *("comparison", "dataset", "blocks", "images", *rest),
        *("normalization", "frozen BatchNorm", *numbers),
    )
    return Table(
        name="confound-deltas",
        title="Deltas (percentage points) by normalisation and BatchNorm mode",
        columns=columns,
        rows=tuple(_row(cell, bool(rest)) for cell in cells.to_dict("records")),
        numbers=frozenset({"blocks", "images", *numbers}),
        notes=(_NOTE, *_methods(cells)),
    )


def _methods(cells: pd.DataFrame) -> list[str]:
    """How the intervals were made, with the caution that few pairs need."""
    counts = cells["method"].value_counts().sort_index()
    said = [f"{counted(int(count), 'row')}: {method}." for method, count in counts.items()]
    if few := int(cells["n_changes"].between(2, FEW_PAIRS - 1).sum()):
        said.append(f"{counted(few, 'change')} of few pairs: the interval rests on normal differences.")
    return said


def _row(cell: dict[Any, Any], rest: bool) -> tuple[str, ...]:
    return (
        f"{cell['source']} minus {cell['baseline']}",
        cell["dataset"],
        _size(cell["blocks"]),
        _size(cell["images"]),
        *([cell["rest"]] if rest else []),
        cell["normalization"],
        cell["frozen_batchnorm"],
        str(cell["n_pairs"]),
        _signed(cell["mean_delta"]),
        _interval(cell["ci_low"], cell["ci_high"]),
        _interval(cell["ci_low_simultaneous"], cell["ci_high_simultaneous"]),
        "" if pd.isna(cell["n_changes"]) else f"{cell['n_changes']:.0f}",
        _signed(cell["change"]),
        _interval(cell["change_low"], cell["change_high"]),
    )


def _signed(value: float) -> str:
    return "" if pd.isna(value) else f"{value:+.2f}"


def _interval(low: float, high: float) -> str:
    return "" if pd.isna(low) else f"{low:+.2f} to {high:+.2f}"
