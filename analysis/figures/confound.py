"""Deltas for every normalization rule and every mode of frozen BatchNorm, side by side.

The last released code (from 16 September 2020) normalized images differently in the natural and the robust arm of a
comparison; the code behind the paper's numbers did not. The effect on a delta is visible where trials were run with
both rules.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

import pandas as pd

from analysis.evaluations.frames import at_epoch
from analysis.evaluations.recipes import Choices, recipe_words
from analysis.figures.drawing.axis import DELTA, Axis
from analysis.figures.drawing.model import BARS, POINTS, Figure, Panel
from analysis.paired.cells import summarize
from analysis.paired.changes import changes, mean_changes
from analysis.paired.contrasts import Comparison
from analysis.paired.pairing import KEYS, pair_all
from analysis.statistics.grouped import CONFIDENCE
from analysis.statistics.paired_t import FEW_VALUES, ROUNDING
from analysis.tables.model import Table
from analysis.words import counted, in_a_sentence, interval, signed, without_width
from jobs.specs.base import ALL
from jobs.specs.recipes import Recipe

NORMALIZATIONS: tuple[str, ...] = get_args(Recipe.model_fields["normalization"].annotation)
MODES: tuple[str, ...] = get_args(Recipe.model_fields["frozen_batchnorm"].annotation)
AS_RELEASED = {"normalization": "as-released", "frozen_batchnorm": "batch"}
"""The choices of the last released code; changes are relative to them."""

_WAY = tuple(AS_RELEASED)
_PANEL = ("source", "baseline", "dataset", "blocks", "images", "epochs", "numerics", "other")
"""Columns in which the points of one panel agree; ``other`` contains all other choices of the recipe, as JSON."""

_PLACE = ["baseline", "source", "dataset", "blocks", "images_used", "epochs", "numerics", "other"]
"""Columns by which panels are sorted."""

_FROZEN_BATCHNORM = Axis(column="frozen BatchNorm", label="frozen BatchNorm")
_CAPTION = (
    "Deltas of test accuracy after the last epoch, by image normalization and by the statistics that frozen BatchNorm "
    "layers use."
)
_MEANINGS = (
    "Normalization as-released: a natural source uses the target's mean and standard deviation, a robust source its "
    "own, so that the arms differ in more than the source; source and target: the same rule for both arms. "
    "BatchNorm batch: batch statistics, as released; calibrated: statistics of the trial's own subset; source: "
    "statistics of the source. "
)
_INTERVALS = (
    f"{_MEANINGS}Thick bars: pointwise 95 % paired t intervals; thin bars: simultaneous over all points of a panel "
    "(Bonferroni). They cover subset and fine-tuning noise, given one checkpoint per source and a fixed test set. "
    f"Small markers with dotted bars: fewer than {FEW_VALUES} pairs, for which the interval assumes normal "
    "differences; it is pointwise only, and clipped at the frame where it is wide."
)
_NOTE = (
    "Change: the delta minus the delta with as-released normalization and batch statistics, seed by seed, with its "
    "95 % paired t interval; a negative change means that the released settings gave the larger delta. Simultaneous "
    "intervals cover all settings of one comparison, dataset, number of blocks and size (Bonferroni)."
)


class Confound(NamedTuple):
    """The deltas of all settings as a figure, and their changes from the released settings as a table."""

    figure: Figure
    table: Table


def confound(data: pd.DataFrame, chosen: Sequence[Comparison], recipes: Mapping[str, Choices]) -> Confound | None:
    """Return the comparisons that were run with several settings; None if there are none.

    Trials of two recipes are never averaged: each setting is a separate cell, and a panel contains settings that
    differ only in normalization and BatchNorm mode.

    Args:
        data: evaluations.
        chosen: the comparisons to show.
        recipes: the choices of recorded recipes, by digest.
    """
    cells = confound_cells(data, chosen, recipes)
    if cells.empty:
        return None
    cells = cells.assign(rest=_rest(cells))
    modes = [mode for mode in MODES if mode in set(cells["frozen_batchnorm"])]
    panels = [
        Panel(
            title=_title(group.iloc[0].to_dict()),
            quantity=DELTA,
            against=_FROZEN_BATCHNORM,
            by="normalization",
            points=_points(group, modes),
            ticks=tuple(modes),
        )
        for _, group in cells.groupby(list(_PANEL), sort=False)
    ]
    figure = Figure(
        name="confound",
        title="Deltas by normalization and BatchNorm mode",
        caption=_CAPTION,
        panels=tuple(panels),
        shades=BARS,
        intervals=_INTERVALS,
    )
    return Confound(figure, _table(cells))


def confound_cells(data: pd.DataFrame, chosen: Sequence[Comparison], recipes: Mapping[str, Choices]) -> pd.DataFrame:
    """Return one row per comparison, point of the grid and setting, where there are several settings; may be empty.

    Columns: those of ``analysis.paired.cells.summarize`` (simultaneous over the settings), the settings, and ``change``
    with its bounds and ``n_changes``: the delta minus that of the released settings, seed by seed; NaN for the
    released settings themselves, and where these were not run.
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
    """Return the mean change of each delta from the released settings, paired by seed, with its interval."""
    released = pd.Series(True, index=pairs.index)
    for key, value in AS_RELEASED.items():
        released &= pairs[key] == value
    return mean_changes(changes(pairs, released, _PANEL), KEYS)


def _rest(cells: pd.DataFrame) -> list[str]:
    """Describe what distinguishes panels besides the grid: other choices of the recipe, lengths, numerics."""
    others = recipe_words({other: json.loads(other) for other in cells["other"].unique()})
    columns = [[others.get(other, "") for other in cells["other"]]]
    for name in ("epochs", "numerics"):
        if cells[name].nunique() > 1:
            columns.append([f"{name} {value}" for value in cells[name]])
    return [", ".join(filter(None, words)) for words in zip(*columns, strict=True)]


def _title(cell: Mapping[Any, Any]) -> str:
    blocks, images = (f"{_size(cell[name])} {name}" for name in ("blocks", "images"))
    what = f"{cell['source']} minus {cell['baseline']}: {cell['dataset']}"
    return ", ".join(filter(None, [what, blocks, images, cell["rest"]]))


def _size(value: int) -> str:
    return "all" if value == ALL else f"{value:,}"


def _points(cells: pd.DataFrame, modes: Sequence[str]) -> pd.DataFrame:
    """Return the points; the normalizations of one mode share its x."""
    points = cells.rename(columns=lambda name: name.removeprefix("ci_")).rename(
        columns={"mean_delta": "mean", "n_pairs": "n"}
    )
    return points.assign(
        series="normalization " + cells["normalization"],
        arm="",
        variant="",
        x=cells["frozen_batchnorm"].map(modes.index),
        whole=cells["images"] == ALL,
    )[list(POINTS)]


def _table(cells: pd.DataFrame) -> Table:
    rest = ["other choices"] if cells["rest"].any() else []
    numbers = (
        *("pairs", "delta", "95 % interval", "simultaneous"),
        *("pairs of the change", "change", "95 % interval of the change"),
    )
    columns = (
        *("comparison", "dataset", "blocks", "images", *rest),
        *("normalization", "frozen BatchNorm", *numbers),
    )
    return Table(
        name="confound-deltas",
        title="Deltas (percentage points) by normalization and BatchNorm mode",
        columns=columns,
        rows=tuple(_row(cell, bool(rest)) for cell in cells.to_dict("records")),
        numbers=frozenset({"blocks", "images", *numbers}),
        notes=(_NOTE, *_methods(cells)),
    )


def _methods(cells: pd.DataFrame) -> list[str]:
    """Describe how the intervals were computed, with cautions for few pairs and for equal changes."""
    counts = cells["method"].value_counts().sort_index()
    sentences = [f"{counted(int(count), 'row')}: {method}." for method, count in counts.items()]
    if few := int(cells["n_changes"].between(2, FEW_VALUES - 1).sum()):
        sentences.append(f"{counted(few, 'change')} of few pairs: the interval assumes normal differences.")
    if equal := int((cells["change_high"] - cells["change_low"] < ROUNDING).sum()):
        sentences.append(in_a_sentence([without_width(equal, "row", "changes")]))
    return sentences


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
        signed(cell["mean_delta"]),
        interval(cell["ci_low"], cell["ci_high"]),
        interval(cell["ci_low_simultaneous"], cell["ci_high_simultaneous"]),
        "" if pd.isna(cell["n_changes"]) else f"{cell['n_changes']:.0f}",
        signed(cell["change"]),
        interval(cell["change_low"], cell["change_high"]),
    )
