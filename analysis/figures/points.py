"""Points of curves, from evaluations: means of accuracy, and deltas between two arms."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.cells import FEW_PAIRS, summarize
from analysis.figures.model import POINTS, Panel
from analysis.frames import main_lengths
from analysis.pairing import CELL, pair
from analysis.statistics.paired_t import Moments, bonferroni, half_width, moments
from jobs.specs import ALL

CONFIDENCE = 0.95
_VARIANT, _BETWEEN = ("origin", "recipe", "numerics"), "\0"


def accuracy_points(rows: pd.DataFrame, series: str, against: str) -> pd.DataFrame:
    """Mean test accuracy in percent, over the seeds, of each (series, source, variant, x); variants have no names yet.

    Args:
        rows: evaluations, one a trial and x.
        series: the column that colours tell apart.
        against: ``images`` or ``epoch``.
    """
    keys = _curve_keys(series, "source")
    x = "images_used" if against == "images" else "epoch"
    cell = [*dict.fromkeys([*keys, "images", "images_used", x, "epochs"])]
    groups = rows.sort_values([*cell, "seed", "trial_id"]).groupby(cell, sort=True)
    cells = groups.size().reset_index(name="n")
    found = moments(
        rows.loc[groups.ngroup().index, "test_accuracy"].to_numpy(np.float64),
        groups.ngroup().to_numpy(),
        len(cells),
    )
    table = main_lengths(cells.assign(mean=found.mean, sd=found.sd), [*keys, "images_used"], "n")
    found = Moments(table["n"].to_numpy(), table["mean"].to_numpy(), table["sd"].to_numpy())
    size = table.assign(has=table["n"] > 1).groupby(keys)["has"].transform("sum").to_numpy()
    for suffix, level in (("", CONFIDENCE), ("_simultaneous", bonferroni(CONFIDENCE, size))):
        half = half_width(found, level)
        table[f"low{suffix}"], table[f"high{suffix}"] = found.mean - half, found.mean + half
    return _points(table, series, "source", x)


def delta_points(
    left: pd.DataFrame, right: pd.DataFrame, series: str, against: str, arm: str, keys: Sequence[str] = CELL
) -> pd.DataFrame:
    """Deltas of test accuracy, left minus right, in percentage points, of each (series, variant, x); as before.

    Args:
        left, right: evaluations of the two arms.
        arm: a name for the comparison.
        keys: what paired trials share besides the seed; without ``blocks`` for a delta between blocks.
    """
    pairing = pair(left, right, keys)
    counts = main_lengths(pairing.counts[pairing.counts["n_pairs"] > 0], [*_curve_keys(series), "images"], "n_pairs")
    shown = pairing.pairs.merge(counts[list(keys)], on=list(keys), how="inner")
    table = summarize(shown, counts, keys, _curve_keys(series), CONFIDENCE)
    renamed = table.rename(columns=lambda name: name.removeprefix("ci_")).rename(
        columns={"mean_delta": "mean", "n_pairs": "n"}
    )
    x = "images_used" if against == "images" else "epoch"
    return _points(renamed.assign(source=arm), series, "source", x)


def mean_points(rows: pd.DataFrame, curve: Sequence[str], x: str, value: str) -> pd.DataFrame:
    """Mean of ``value`` over the trials of each curve and x, with its t interval where there are enough to say much.

    Args:
        rows: one a trial and x.
        curve: the columns that tell curves apart.
    """
    groups = rows.groupby([*curve, x], sort=True, dropna=False)
    table = groups.size().reset_index(name="n")
    values = rows.loc[groups.ngroup().index, value].to_numpy(np.float64)
    found = moments(values, groups.ngroup().to_numpy(), len(table))
    enough = table["n"] >= FEW_PAIRS
    sizes = table.assign(has=enough).groupby(list(curve), dropna=False)["has"].transform("sum").to_numpy()
    for suffix, level in (("", CONFIDENCE), ("_simultaneous", bonferroni(CONFIDENCE, sizes))):
        half = np.where(enough, half_width(found, level), np.nan)
        table[f"low{suffix}"], table[f"high{suffix}"] = found.mean - half, found.mean + half
    return table.assign(mean=found.mean)


def _curve_keys(*names: str) -> list[str]:
    return [*dict.fromkeys([*names, *_VARIANT])]


def _points(table: pd.DataFrame, series: str, arm: str, x: str) -> pd.DataFrame:
    made = table.assign(
        series=table[series].astype(str) if len(table) else pd.Series(dtype=str),
        arm=table[arm],
        variant=table[list(_VARIANT)].astype(str).agg(_BETWEEN.join, axis=1) if len(table) else pd.Series(dtype=str),
        x=table[x].astype("int64"),
        whole=table["images"] == ALL,
        _order=table[series],
    )
    ordered = made.sort_values(["_order", "arm", "variant", "x", "n"], kind="stable", ignore_index=True)
    return ordered[list(POINTS)]


def with_variants_named(panels: Sequence[Panel]) -> tuple[Panel, ...]:
    """Variants by what tells their origin, recipe and numerics apart in a figure, the same in all its panels; by
    nothing where all are alike.
    """
    found = dict.fromkeys(key for panel in panels for key in panel.points["variant"])
    table = pd.DataFrame([key.split(_BETWEEN) for key in found], columns=list(_VARIANT))
    table["numerics"] = pd.to_numeric(table["numerics"], errors="coerce").astype("Int64")  # imported trials have none
    names = dict(zip(found, _variants(table), strict=True))
    return tuple(
        replace(panel, points=panel.points.assign(variant=[names[key] for key in panel.points["variant"]]))
        for panel in panels
    )


def _variants(table: pd.DataFrame) -> list[str]:
    varying = [name for name in _VARIANT if table[name].nunique() > 1]
    if "origin" in varying and table.loc[table["origin"] != "imported", "recipe"].nunique() <= 1:
        varying = [
            "origin",
            *(["numerics"] if table.loc[table["origin"] != "imported", "numerics"].nunique() > 1 else []),
        ]
    return [
        " ".join(str(row[name]) for name in varying if pd.notna(row[name]))
        for row in table[list(_VARIANT)].to_dict("records")
    ]
