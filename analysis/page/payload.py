"""The data behind the page's curves, compact enough for 14,400 trials: columnar, names by index, few digits."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from analysis.evaluations.lengths import length_of
from analysis.paired.cells import summarize
from analysis.paired.contrasts import Comparison
from analysis.paired.pairing import KEYS, pair_all
from analysis.statistics.grouped import CONFIDENCE, moments_by
from analysis.statistics.paired_t import ROUNDING, half_width

MOST_ROWS = 25_000
"""Largest number of rows of deltas in the page; beyond it, only the default baselines can be selected."""

_CURVE = ("source", "baseline", "dataset", "blocks", "recipe", "numerics", "origin", "length")
_CELL = ["dataset", "blocks", "images", "images_used", "epoch", "epochs", "variant"]


def payload(data: pd.DataFrame, chosen: Sequence[Comparison]) -> dict[str, Any]:
    """Return all data that the page's controls can select.

    Args:
        data: evaluations with ``variant``, not empty.
        chosen: the default comparisons; empty where no baseline follows from the data.
    """
    return {
        "deltas": _columns(_deltas(data, chosen)),
        "accuracy": _columns(_accuracy(data)),
    }


def _deltas(data: pd.DataFrame, chosen: Sequence[Comparison]) -> pd.DataFrame:
    """Means and half widths of intervals by epoch; ``band_last`` is simultaneous over the curve of last epochs."""
    pairs = shown_pairs(data, chosen)
    if not pairs:
        return pd.DataFrame()
    paired, counts = pair_all(data, pairs)
    counts = length_of(counts, data, "variant")
    every = summarize(paired, counts, KEYS, [*_CURVE, "epoch"], CONFIDENCE)
    ends, counts = (part[part["epoch"] == part["epochs"]] for part in (paired, counts))
    last = summarize(ends, counts.reset_index(drop=True), KEYS, _CURVE, CONFIDENCE)
    last = last.assign(band_last=last["ci_high_simultaneous"] - last["mean_delta"])
    table = every.merge(last[[*KEYS, "band_last"]], on=list(KEYS), how="left")
    table = table[table["n_pairs"] > 0]
    return pd.DataFrame(
        {
            **{name: table[name] for name in ("source", "baseline", *_CELL)},
            "n": table["n_pairs"],
            "unpaired": table["n_unpaired"],
            "mean": table["mean_delta"].round(3),
            "half": _rounded(table["ci_high"] - table["mean_delta"]),
            "band": (table["ci_high_simultaneous"] - table["mean_delta"]).round(3),
            "band_last": table["band_last"].round(3),
        }
    )


def shown_pairs(data: pd.DataFrame, chosen: Sequence[Comparison]) -> list[Comparison]:
    """Return all pairs of sources, which requires no baseline; the default comparisons where all would be too many."""
    names = sorted(set(data["source"]))
    return list(chosen) if too_many(data) else [Comparison(left, right) for left, right in combinations(names, 2)]


def _accuracy(data: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracies by source and epoch, with the half widths of their t intervals."""
    keys = ["source", *_CELL]
    cells, accuracies = moments_by(data.sort_values([*keys, "seed", "trial_id"]), keys, "test_accuracy")
    half = pd.Series(half_width(accuracies, CONFIDENCE), cells.index)
    return cells.assign(mean=accuracies.mean.round(3), half=_rounded(half))


def _rounded(half: "pd.Series[float]") -> "pd.Series[float]":
    """Round half widths of intervals to three digits; only those of equal values become 0."""
    return half.round(3).clip(lower=0.001).mask(half < ROUNDING, 0.0)


def too_many(data: pd.DataFrame) -> bool:
    """Return whether all pairs of sources would exceed the page's limit on rows."""
    cells = data[["source", *_CELL]].drop_duplicates()
    return len(cells) * (cells["source"].nunique() - 1) / 2 > MOST_ROWS


def _columns(table: pd.DataFrame) -> dict[str, Any]:
    """Encode numeric columns as lists, text columns as a list of names and a list of indices; NaN as null."""
    columns: dict[str, Any] = {}
    for name in table.columns:
        column = table[name]
        if pd.api.types.is_numeric_dtype(column):
            columns[str(name)] = [None if value != value else value for value in column.tolist()]
        else:
            names = sorted(set(column))
            places = {value: index for index, value in enumerate(names)}
            columns[str(name)] = {"names": names, "index": [places[value] for value in column]}
    return columns
