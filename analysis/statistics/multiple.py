"""Correction for looking at many cells at once."""

import numpy as np

from analysis.statistics.paired_t import Floats


def holm(p: Floats) -> Floats:
    """Holm's adjusted p-values of one family; NaN stays NaN and counts for nothing.

    The family-wise error stays below alpha when cells with an adjusted p below alpha are called
    different, whatever the dependence between cells (Holm 1979).
    """
    adjusted = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return adjusted
