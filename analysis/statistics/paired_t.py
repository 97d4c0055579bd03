"""Paired t intervals and tests for many cells at once.

A cell is a group of paired differences (one dataset, blocks, images, ...). Values are passed as one array, together
with the cell index of each value, so that thousands of cells need a single scipy call. Only scipy's functions for
Student's t are loaded: importing ``scipy.stats`` takes half a second more of CPU time and gives identical bits.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FEW_VALUES = 5
"""Intervals of fewer values carry a warning: with 2 to 4 values they assume normally distributed differences."""

ROUNDING = 1e-9
"""Standard deviation, or width of an interval, in percentage points, below which values are equal: accuracies are
rounded to 53 bits.
"""


class Moments(NamedTuple):
    """Count, mean and standard deviation (n - 1) of each cell; NaN where a cell has too few values."""

    n: Ints
    mean: Floats
    sd: Floats


def moments(values: Floats, cell: NDArray[np.integer[Any]], cells: int) -> Moments:
    """Return the moments of each of ``cells`` cells, in two passes (sums of squares would lose digits).

    Args:
        values: differences, in any unit.
        cell: the cell index of each value, 0 to ``cells`` - 1.
    """
    n = np.bincount(cell, minlength=cells)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(cell, weights=values, minlength=cells) / n
        squares = np.bincount(cell, weights=(values - mean[cell]) ** 2, minlength=cells)
        sd = np.sqrt(squares / np.where(n > 1, n - 1, np.nan))
    return Moments(n, mean, sd)


def half_width(cells: Moments, confidence: Floats | float) -> Floats:
    """Return half the width of the t interval of each cell's mean; NaN below two values.

    Args:
        confidence: between 0 and 1; one for all cells or one per cell. For Bonferroni's simultaneous bands
            over m cells of a curve this is 1 - (1 - c) / m.
    """
    freedom = np.where(cells.n > 1, cells.n - 1, np.nan)
    quantile = special.stdtrit(freedom, (1 + np.asarray(confidence)) / 2)
    return np.asarray(quantile * cells.sd / np.sqrt(np.maximum(cells.n, 1)))


def p_values(cells: Moments) -> Floats:
    """Return the two-sided p-value of each cell against a mean of 0; NaN below two values.

    Where all differences are equal it is 0 (1 if they are all 0): the limit of a vanishing spread.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        statistic = np.abs(cells.mean) / (cells.sd / np.sqrt(cells.n))
    statistic = np.where((cells.sd == 0) & (cells.mean == 0), 0.0, statistic)
    freedom = np.where(cells.n > 1, cells.n - 1, np.nan)
    return np.asarray(2 * special.stdtr(freedom, -statistic))


def bonferroni(confidence: float, comparisons: Ints) -> Floats:
    """Return the confidence of each of m intervals such that all m hold together with ``confidence``."""
    return np.asarray(1 - (1 - confidence) / np.maximum(comparisons, 1))
