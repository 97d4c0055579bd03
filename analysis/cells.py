"""From pairs to numbers: one row a cell, with its intervals and tests."""

import hashlib
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from analysis.pairing import DEPTH
from analysis.statistics.bootstrap import Interval, percentile
from analysis.statistics.paired_t import Floats, Ints, bonferroni, half_width, moments, p_values

Method: TypeAlias = Literal["paired-t", "paper-compatible"]
"""Of the interval: the default, or the kind of the paper's own bands."""

_SEED = 20_000_000  # of the bootstrap; the first seed of formula (6)
FEW_PAIRS = 5
"""Below this an interval carries a warning: at 2 to 4 pairs it rests on the normality of the differences."""


def summarize(
    pairs: pd.DataFrame,
    counts: pd.DataFrame,
    keys: Sequence[str],
    curve: Sequence[str],
    confidence: float,
    method: Method = "paired-t",
) -> pd.DataFrame:
    """Means, intervals and p-values of the cells in ``counts``, which keep their order.

    Adds ``mean_delta`` and the bounds in percentage points, ``p_value`` and ``method``. Bands are simultaneous
    over the cells of a curve: those that agree in the columns ``curve`` and have an interval at all.

    Args:
        method: of the interval. ``paper-compatible`` is the percentile bootstrap, which knows no simultaneous band; the
            p-value is the paired t test's in both.
    """
    values, cell = _grouped(pairs, counts, keys)
    found = moments(values, cell, cells=len(counts))
    table = counts.assign(mean_delta=found.mean, p_value=p_values(found))
    sizes = table.assign(has=found.n > 1).groupby(list(curve), dropna=False)["has"].transform("sum").to_numpy()
    for suffix, level in (("", confidence), ("_simultaneous", bonferroni(confidence, sizes))):
        half = half_width(found, level)
        table[f"ci_low{suffix}"] = found.mean - half
        table[f"ci_high{suffix}"] = found.mean + half
    if method == "paper-compatible":
        names = _names(table, keys)
        intervals = [_bootstrapped(values[cell == row], name, confidence) for row, name in enumerate(names)]
        table[["ci_low", "ci_high"]] = np.array(intervals).reshape(-1, 2)
        table[["ci_low_simultaneous", "ci_high_simultaneous"]] = np.nan
    table["method"] = [_words(n, confidence, method) for n in found.n]
    return table


def _names(table: pd.DataFrame, keys: Sequence[str]) -> "pd.Series[str]":
    """A name for each cell; the baseline's depth is part of it where it is another than the source's."""
    names = table[[key for key in keys if key != DEPTH]].astype(str).agg("/".join, axis=1)
    if DEPTH not in keys:
        return names
    return names.where(table[DEPTH] == table["blocks"], names + "/" + table[DEPTH].astype(str))


def _bootstrapped(differences: Floats, name: str, confidence: float) -> Interval:
    """Seeded by the cell's own name: no other cell, and no order of cells, changes its interval."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return percentile(differences, np.random.default_rng([_SEED, seed]), confidence)


def _words(n: int, confidence: float, method: Method) -> str:
    """How the interval of a cell of ``n`` pairs was made."""
    if n == 0:
        return "no pairs"
    if n == 1:
        return "one pair: no interval"
    if method == "paper-compatible":
        return f"paper-compatible: percentile bootstrap {confidence:.0%}, too narrow below 20 pairs"
    caution = ", few pairs: rests on normal differences" if n < FEW_PAIRS else ""
    return f"paired t {confidence:.0%}{caution}"


def _grouped(pairs: pd.DataFrame, counts: pd.DataFrame, keys: Sequence[str]) -> tuple[Floats, Ints]:
    """The differences, and the row of ``counts`` that each belongs to."""
    index = counts[list(keys)].assign(_cell=np.arange(len(counts)))
    cell = pairs[list(keys)].merge(index, on=list(keys), how="left", validate="many_to_one")["_cell"]
    return pairs["difference"].to_numpy(dtype=np.float64), cell.to_numpy(dtype=np.int64)
