"""Points of curves, computed from evaluations: mean accuracies, and deltas between two arms."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from analysis.evaluations.lengths import length_of
from analysis.evaluations.variants import VARIANT, variant_names
from analysis.figures.drawing.model import POINTS, Panel
from analysis.paired.cells import summarize
from analysis.paired.pairing import CELL, pair
from analysis.statistics.grouped import CONFIDENCE, moments_by, with_intervals
from jobs.specs.base import ALL

_BETWEEN = "\x1f"


def accuracy_points(rows: pd.DataFrame, series: str, against: str) -> pd.DataFrame:
    """Return mean test accuracy in percent, over seeds, for each (series, source, variant, x); variants are unnamed.

    Args:
        rows: evaluations, one per trial and x.
        series: the column that determines colours.
        against: ``images`` or ``epoch``.
    """
    keys = _curve_keys(series, "source")
    x = "images_used" if against == "images" else "epoch"
    cell = [*dict.fromkeys([*keys, "images", "images_used", x, "epochs"])]
    cells, accuracies = moments_by(rows.sort_values([*cell, "seed", "trial_id"]), cell, "test_accuracy")
    table = with_intervals(cells.assign(mean=accuracies.mean), accuracies, keys)
    return _points(table, series, "source", x)


def delta_points(
    left: pd.DataFrame, right: pd.DataFrame, series: str, against: str, arm: str, keys: Sequence[str] = CELL
) -> pd.DataFrame:
    """Return deltas of test accuracy (left minus right) in percentage points for each (series, variant, x).

    Variants are unnamed, as in ``accuracy_points``.

    Args:
        left, right: evaluations of the two arms.
        arm: a name for the comparison.
        keys: what paired trials share besides the seed; without ``blocks`` for a delta between blocks.
    """
    pairing = pair(left, right, keys)
    counts = length_of(pairing.counts[pairing.counts["n_pairs"] > 0], left)
    table = summarize(pairing.pairs, counts, keys, _curve_keys(series), CONFIDENCE)
    renamed = table.rename(columns=lambda name: name.removeprefix("ci_")).rename(
        columns={"mean_delta": "mean", "n_pairs": "n"}
    )
    x = "images_used" if against == "images" else "epoch"
    return _points(renamed.assign(source=arm), series, "source", x)


def _curve_keys(*names: str) -> list[str]:
    return [*dict.fromkeys([*names, *VARIANT])]


def _points(table: pd.DataFrame, series: str, arm: str, x: str) -> pd.DataFrame:
    origin, recipe, numerics, length = (table[name].astype(str) for name in VARIANT)  # as in named_variants
    points = table.assign(
        series=table[series].astype(str),
        arm=table[arm],
        variant=origin + _BETWEEN + recipe + _BETWEEN + numerics + _BETWEEN + length,
        x=table[x].astype("int64"),
        whole=table["images"] == ALL,
        _order=table[series],
    )
    ordered = points.sort_values(["_order", "arm", "variant", "x", "n"], kind="stable", ignore_index=True)
    return ordered[list(POINTS)]


def named_variants(data: pd.DataFrame, words: Mapping[str, str]) -> dict[str, str]:
    """Return the names of unnamed variants: what distinguishes their origin, recipe, numerics and length.

    They are empty if the evaluations have only one variant.

    Args:
        data: all evaluations of a report, so that a figure of one variant says which it shows, and all figures alike.
        words: descriptions of recipes, by digest.
    """
    table = data[list(VARIANT)].drop_duplicates().astype(str).reset_index(drop=True)
    keys = table.agg(_BETWEEN.join, axis=1)
    return dict(zip(keys, variant_names(table, words) if len(table) > 1 else [""] * len(table), strict=True))


def with_variants_named(panels: Sequence[Panel], names: Mapping[str, str]) -> tuple[Panel, ...]:
    """Name the variants in panels, by ``named_variants``."""
    return tuple(
        replace(panel, points=panel.points.assign(variant=[names[key] for key in panel.points["variant"]]))
        for panel in panels
    )
