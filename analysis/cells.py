"""From pairs to numbers: one row a cell, with its intervals and tests."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.statistics.paired_t import bonferroni, half_width, moments, p_values

FEW_PAIRS = 5
"""Below this an interval carries a warning: at 2 to 4 pairs it rests on the normality of the differences."""


def summarize(
    pairs: pd.DataFrame, counts: pd.DataFrame, keys: Sequence[str], curve: Sequence[str], confidence: float
) -> pd.DataFrame:
    """Means, intervals and p-values of the cells in ``counts``, which keep their order.

    Adds ``mean_delta`` and the bounds in percentage points, ``p_value`` and ``method``. Bands are simultaneous
    over the cells of a curve: those that agree in the columns ``curve`` and have an interval at all.
    """
    found = moments(*_grouped(pairs, counts, keys), cells=len(counts))
    has_interval = found.n > 1
    table = counts.assign(mean_delta=found.mean)
    comparisons = table.assign(has=has_interval).groupby(list(curve), dropna=False)["has"].transform("sum").to_numpy()
    for suffix, level in (("", confidence), ("_simultaneous", bonferroni(confidence, comparisons))):
        half = half_width(found, level)
        table[f"ci_low{suffix}"] = found.mean - half
        table[f"ci_high{suffix}"] = found.mean + half
    table["p_value"] = p_values(found)
    table["method"] = [method(n, confidence) for n in found.n]
    return table


def method(n: int, confidence: float) -> str:
    """How the interval of a cell of ``n`` pairs was made, in words."""
    if n == 0:
        return "no pairs"
    if n == 1:
        return "one pair: no interval"
    caution = ", few pairs: rests on normal differences" if n < FEW_PAIRS else ""
    return f"paired t {confidence:.0%}{caution}"


def _grouped(
    pairs: pd.DataFrame, counts: pd.DataFrame, keys: Sequence[str]
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """The differences, and the row of ``counts`` that each belongs to."""
    index = counts[list(keys)].assign(_cell=np.arange(len(counts)))
    cell = pairs[list(keys)].merge(index, on=list(keys), how="left", validate="many_to_one")["_cell"]
    return pairs["difference"].to_numpy(dtype=np.float64), cell.to_numpy(dtype=np.int64)
