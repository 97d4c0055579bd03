"""The numbers behind the page's curves, compact enough for 14,400 trials: columns, names by index, few digits."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from analysis.cells import summarize
from analysis.comparisons import Comparison
from analysis.frames import main_lengths
from analysis.pairing import KEYS, pair_all
from analysis.statistics.paired_t import half_width, moments

MOST_ROWS = 25_000
"""Rows of deltas that the page carries; with more, only the default baselines can be chosen."""

_CONFIDENCE = 0.95
_CURVE = ("source", "baseline", "dataset", "blocks", "recipe", "numerics", "origin")
_CELL = ["dataset", "blocks", "images", "images_used", "epoch", "epochs", "variant"]


def with_variant(data: pd.DataFrame, words: Mapping[str, str]) -> pd.DataFrame:
    """A readable name for what keeps trials apart besides the grid: origin, recipe and numerics.

    Args:
        words: of recipes, by digest; those that have none are named by it.
    """
    own = data["origin"] != "imported"
    names = pd.Series("own trials", index=data.index)
    if data.loc[own, "recipe"].nunique() > 1:
        names += ", " + data["recipe"].map(lambda digest: words.get(digest, f"recipe {digest}"))
    if data.loc[own, "numerics"].nunique() > 1:
        names += ", numerics " + data["numerics"].astype(str)
    return data.assign(variant=names.where(own, "imported"))


def payload(data: pd.DataFrame, chosen: Sequence[Comparison]) -> dict[str, Any]:
    """Everything the page's choices need.

    Args:
        data: evaluations (``with_variant``), not empty.
        chosen: the default comparisons; none where no baseline follows from the data.
    """
    return {
        "deltas": _columns(_deltas(data, chosen)),
        "accuracy": _columns(_accuracy(data)),
    }


def _deltas(data: pd.DataFrame, chosen: Sequence[Comparison]) -> pd.DataFrame:
    """Mean and half widths of intervals by epoch; ``band_last`` is simultaneous over the last epochs' curve."""
    pairs = shown_pairs(data, chosen)
    if not pairs:
        return pd.DataFrame()
    found, counts = pair_all(data, pairs)
    every = summarize(found, counts, KEYS, [*_CURVE, "epoch"], _CONFIDENCE)
    ends, counts = (part[part["epoch"] == part["epochs"]] for part in (found, counts))
    last = summarize(ends, counts.reset_index(drop=True), KEYS, _CURVE, _CONFIDENCE)
    last = last.assign(band_last=last["ci_high_simultaneous"] - last["mean_delta"])
    table = every.merge(last[[*KEYS, "band_last"]], on=list(KEYS), how="left")
    table = table[table["n_pairs"] > 0]
    variants = data[["origin", "recipe", "numerics", "variant"]].drop_duplicates()
    table = table.merge(variants, on=["origin", "recipe", "numerics"], how="left")
    table = main_lengths(table, ["source", "baseline", "dataset", "blocks", "images", "variant"], "n_pairs")
    return pd.DataFrame(
        {
            **{name: table[name] for name in ("source", "baseline", *_CELL)},
            "n": table["n_pairs"],
            "unpaired": table["n_unpaired"],
            "mean": table["mean_delta"].round(3),
            "half": (table["ci_high"] - table["mean_delta"]).round(3),
            "band": (table["ci_high_simultaneous"] - table["mean_delta"]).round(3),
            "band_last": table["band_last"].round(3),
        }
    )


def shown_pairs(data: pd.DataFrame, chosen: Sequence[Comparison]) -> list[Comparison]:
    """All pairs of sources, which need no baseline; the default comparisons where all would be too many."""
    names = sorted(set(data["source"]))
    return list(chosen) if too_many(data) else [Comparison(left, right) for left, right in combinations(names, 2)]


def _accuracy(data: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy by source and epoch, with the half width of its t interval."""
    keys = ["source", *_CELL]
    groups = data.sort_values([*keys, "seed", "trial_id"]).groupby(keys, sort=True)
    cells = groups.size().reset_index(name="n")
    index = groups.ngroup()
    found = moments(data.loc[index.index, "test_accuracy"].to_numpy(np.float64), index.to_numpy(), len(cells))
    cells = cells.assign(mean=found.mean.round(3), half=half_width(found, _CONFIDENCE).round(3))
    return main_lengths(cells, ["source", "dataset", "blocks", "images", "variant"], "n")


def too_many(data: pd.DataFrame) -> bool:
    """Whether all pairs of sources would be more rows than the page carries."""
    cells = data[["source", *_CELL]].drop_duplicates()
    return len(cells) * (cells["source"].nunique() - 1) / 2 > MOST_ROWS


def _columns(table: pd.DataFrame) -> dict[str, Any]:
    """Columns of numbers as lists, columns of text as a list of names and one of indices; NaN as null."""
    made: dict[str, Any] = {}
    for name in table.columns:
        column = table[name]
        if pd.api.types.is_numeric_dtype(column):
            made[str(name)] = [None if value != value else value for value in column.tolist()]
        else:
            names = sorted(set(column))
            places = {value: index for index, value in enumerate(names)}
            made[str(name)] = {"names": names, "index": [places[value] for value in column]}
    return made
