"""From pairs to one row per cell, with its intervals and tests."""

import hashlib
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from analysis.paired.pairing import DEPTH
from analysis.statistics.bootstrap import Interval, percentile
from analysis.statistics.grouped import CONFIDENCE, with_intervals
from analysis.statistics.paired_t import FEW_VALUES, ROUNDING, Floats, Ints, moments, p_values

Method: TypeAlias = Literal["paired-t", "paper-compatible"]
"""How intervals are computed: by the paired t test, or by a seeded percentile bootstrap akin to the paper's bands."""
DEFAULT_METHOD: Method = "paired-t"

_SEED = 20_000_000  # of the bootstrap; the first seed in the paper's formula (6)


def summarize(
    pairs: pd.DataFrame,
    counts: pd.DataFrame,
    keys: Sequence[str],
    curve: Sequence[str],
    confidence: float,
    method: Method = DEFAULT_METHOD,
) -> pd.DataFrame:
    """Compute means, intervals and p-values of the cells in ``counts``, in their order.

    Adds ``mean_delta`` and the bounds in percentage points, ``p_value`` and ``method``. Bands are simultaneous
    over the cells of a curve: those that agree in the columns ``curve`` and have an interval.

    Args:
        method: of the interval. ``paper-compatible`` is the percentile bootstrap, which has no simultaneous band; the
            p-value is that of the paired t test in both cases.
    """
    values, cell = _grouped(pairs, counts, keys)
    differences = moments(values, cell, cells=len(counts))
    table = counts.assign(mean_delta=differences.mean, p_value=p_values(differences))
    table = with_intervals(table, differences, curve, confidence, prefix="ci_")
    if method == "paper-compatible":
        names = _names(table, keys)
        intervals = [_bootstrapped(values[cell == row], name, confidence) for row, name in enumerate(names)]
        table[["ci_low", "ci_high"]] = np.array(intervals).reshape(-1, 2)
        table[["ci_low_simultaneous", "ci_high_simultaneous"]] = np.nan
    table["method"] = [
        method_words(n, confidence, method, equal=spread < ROUNDING)
        for n, spread in zip(differences.n, differences.sd, strict=True)
    ]
    return table


def _names(table: pd.DataFrame, keys: Sequence[str]) -> "pd.Series[str]":
    """Return a name for each cell, with the baseline's depth where it differs from the source's."""
    names = table[[key for key in keys if key != DEPTH]].astype(str).agg("/".join, axis=1)
    if DEPTH not in keys:
        return names
    return names.where(table[DEPTH] == table["blocks"], names + "/" + table[DEPTH].astype(str))


def _bootstrapped(differences: Floats, name: str, confidence: float) -> Interval:
    """Return the bootstrap interval, seeded by the cell's name so that other cells and their order do not matter."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return percentile(differences, np.random.default_rng([_SEED, seed]), confidence)


def method_words(
    n: int, confidence: float = CONFIDENCE, method: Method = DEFAULT_METHOD, *, equal: bool = False
) -> str:
    """Describe how the interval of a cell of ``n`` pairs was computed.

    Args:
        equal: whether all pairs have one difference.
    """
    if n == 0:
        return "no pairs"
    if n == 1:
        return "one pair: no interval"
    alike = ", all differences are equal: no width is no precision" if equal else ""
    if method == "paper-compatible":
        return f"paper-compatible: percentile bootstrap {confidence:.0%}, too narrow below 20 pairs{alike}"
    caution = ", few pairs: rests on normal differences" if n < FEW_VALUES else ""
    return f"paired t {confidence:.0%}{caution}{alike}"


def _grouped(pairs: pd.DataFrame, counts: pd.DataFrame, keys: Sequence[str]) -> tuple[Floats, Ints]:
    """Return the differences, and for each the index of its row in ``counts``."""
    index = counts[list(keys)].assign(_cell=np.arange(len(counts)))
    cell = pairs[list(keys)].merge(index, on=list(keys), how="left", validate="many_to_one")["_cell"]
    return pairs["difference"].to_numpy(dtype=np.float64), cell.to_numpy(dtype=np.int64)
