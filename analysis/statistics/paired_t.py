"""Paired t intervals and tests for many cells at once.

A cell is a group of paired differences (one dataset, blocks, images, ...). Values come as one array with
the number of each value's cell beside it, so that thousands of cells cost one call of scipy. Only its functions of
Student's t are loaded: ``scipy.stats`` takes half a second of the processor more, and gives the same bits by them.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Moments(NamedTuple):
    """Count, mean and standard deviation (n - 1) of each cell; NaN where there are too few values."""

    n: Ints
    mean: Floats
    sd: Floats


def moments(values: Floats, cell: NDArray[np.integer[Any]], cells: int) -> Moments:
    """Moments of each of ``cells`` cells, by two passes (sums of squares would lose digits).

    Args:
        values: differences, any unit.
        cell: the cell of each value, 0 to ``cells`` - 1.
    """
    n = np.bincount(cell, minlength=cells)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(cell, weights=values, minlength=cells) / n
        squares = np.bincount(cell, weights=(values - mean[cell]) ** 2, minlength=cells)
        sd = np.sqrt(squares / np.where(n > 1, n - 1, np.nan))
    return Moments(n, mean, sd)


def half_width(found: Moments, confidence: Floats | float) -> Floats:
    """Half the width of the t interval of each cell's mean; NaN below two values.

    Args:
        confidence: between 0 and 1; one for all cells or one each. For Bonferroni's simultaneous bands
            over m cells of a curve this is 1 - (1 - c) / m.
    """
    freedom = np.where(found.n > 1, found.n - 1, np.nan)
    quantile = special.stdtrit(freedom, (1 + np.asarray(confidence)) / 2)
    return np.asarray(quantile * found.sd / np.sqrt(np.maximum(found.n, 1)))


def p_values(found: Moments) -> Floats:
    """Two-sided p of each cell against a mean of 0; NaN below two values.

    Where all differences are equal, it is 0 (1 when they are all 0): the limit of a vanishing spread.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        statistic = np.abs(found.mean) / (found.sd / np.sqrt(found.n))
    statistic = np.where((found.sd == 0) & (found.mean == 0), 0.0, statistic)
    freedom = np.where(found.n > 1, found.n - 1, np.nan)
    return np.asarray(2 * special.stdtr(freedom, -statistic))


def bonferroni(confidence: float, comparisons: Ints) -> Floats:
    """The confidence of each of m intervals so that all m hold together with ``confidence``."""
    return np.asarray(1 - (1 - confidence) / np.maximum(comparisons, 1))
