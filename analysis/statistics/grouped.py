"""Moments and t intervals of groups of rows, shared by curves, tables and cells."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.statistics.paired_t import FEW_VALUES, Floats, Moments, bonferroni, half_width, moments

CONFIDENCE = 0.95


def moments_by(rows: pd.DataFrame, keys: Sequence[str], value: str) -> tuple[pd.DataFrame, Moments]:
    """Return the groups of rows that agree in ``keys``, sorted, with their size ``n``; and the moments of ``value``."""
    groups = rows.groupby(list(keys), sort=True, dropna=False)
    table, number = groups.size().reset_index(name="n"), groups.ngroup()
    return table, moments(rows[value].to_numpy(np.float64), number.to_numpy(), len(table))


def with_intervals(
    table: pd.DataFrame,
    means: Moments,
    curve: Sequence[str],
    confidence: float = CONFIDENCE,
    least: int = 2,
    prefix: str = "",
) -> pd.DataFrame:
    """Add ``low`` and ``high`` of each row's mean, and ``_simultaneous`` bounds over the rows of each curve.

    Args:
        means: moments of each row's values.
        curve: the columns in which the rows of one curve agree.
        least: rows with fewer values get no interval and do not count for their curve.
        prefix: of the names of the new columns.
    """
    enough = means.n >= least
    sizes = table.assign(has=enough).groupby(list(curve), dropna=False)["has"].transform("sum").to_numpy()
    columns: dict[str, Floats] = {}
    for suffix, level in (("", confidence), ("_simultaneous", bonferroni(confidence, sizes))):
        half = np.where(enough, half_width(means, level), np.nan)
        columns |= {f"{prefix}low{suffix}": means.mean - half, f"{prefix}high{suffix}": means.mean + half}
    return table.assign(**columns)


def curve_means(rows: pd.DataFrame, curve: Sequence[str], x: str, value: str) -> pd.DataFrame:
    """Return the ``mean`` of ``value`` over the trials of each curve and x, with its interval from five trials on.

    Args:
        rows: one per trial and x.
        curve: the columns that distinguish curves.
    """
    table, points = moments_by(rows, [*curve, x], value)
    return with_intervals(table.assign(mean=points.mean), points, curve, least=FEW_VALUES)
