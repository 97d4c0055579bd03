"""Changes of deltas between two recipes: differences of paired differences, seed by seed."""

from collections.abc import Sequence

import pandas as pd

from analysis.statistics.grouped import CONFIDENCE, moments_by
from analysis.statistics.paired_t import half_width


def changes(pairs: pd.DataFrame, reference: "pd.Series[bool]", on: Sequence[str]) -> pd.DataFrame:
    """Return the other pairs with their ``change`` in percentage points: their difference minus that of the reference.

    Pairs without a reference of the same seed are left out.

    Args:
        pairs: pairs of trials, with ``seed`` and ``difference``.
        reference: whether each pair is part of the reference; at most one is for each seed and ``on``.
        on: the columns in which a pair and its reference agree besides the seed.
    """
    keys = [*on, "seed"]
    both = pairs[~reference].merge(
        pairs.loc[reference, [*keys, "difference"]],
        on=keys,
        suffixes=("", "_reference"),
    )
    return both.assign(change=both["difference"] - both["difference_reference"])


def mean_changes(changed: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Return the mean ``change`` of each cell with its 95 % paired t interval, and the number of seeds ``n_changes``.

    The bounds ``change_low`` and ``change_high`` are NaN for one seed.
    """
    table, differences = moments_by(changed, keys, "change")
    half = half_width(differences, CONFIDENCE)
    return table.rename(columns={"n": "n_changes"}).assign(
        change=differences.mean, change_low=differences.mean - half, change_high=differences.mean + half
    )
