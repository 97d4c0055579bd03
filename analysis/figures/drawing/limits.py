"""The visible range of a panel: the limits of its y axis, and the intervals that they clip."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.figures.drawing.axis import Axis
from analysis.statistics.paired_t import FEW_VALUES, Floats


class Bounds(NamedTuple):
    """The drawn intervals of points; NaN where there is none."""

    low: Floats
    high: Floats
    low_simultaneous: Floats
    high_simultaneous: Floats
    """NaN for few trials or pairs, which have only the pointwise interval."""
    few: NDArray[np.bool_]
    """Whether each point has an interval from only two to four trials or pairs."""


def bounds(points: pd.DataFrame) -> Bounds:
    """Return the bounds of a panel's points, in percent or percentage points."""
    intervals = points[["low", "high", "low_simultaneous", "high_simultaneous"]].to_numpy(np.float64).T.copy()
    few = (points["n"].to_numpy() < FEW_VALUES) & ~np.isnan(intervals[0])
    intervals[2:, few] = np.nan
    low, high, low_simultaneous, high_simultaneous = intervals
    return Bounds(low, high, low_simultaneous, high_simultaneous, few)


def y_limits(points: pd.DataFrame, quantity: Axis) -> tuple[float, float]:
    """Cover all means and the intervals of at least five pairs; wide intervals of fewer pairs are clipped."""
    firm = points[points["n"] >= FEW_VALUES]
    values = pd.concat([points["mean"], firm["low_simultaneous"], firm["high_simultaneous"]]).dropna()
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if quantity.zero:
        low, high = min(low, 0.0), max(high, 0.0)
    span = max(high - low, quantity.least_span) or abs(high) or 1.0
    margin = 0.06 * span + max(quantity.least_span - (high - low), 0.0) / 2
    return max(low - margin, quantity.least), min(high + margin, quantity.most)


def cut(points: pd.DataFrame, quantity: Axis) -> NDArray[np.bool_]:
    """Return the points whose drawn intervals are clipped by the frame."""
    bottom, top = y_limits(points, quantity)
    low, high, low_simultaneous, high_simultaneous, _ = bounds(points)
    return np.asarray((low < bottom) | (low_simultaneous < bottom) | (high > top) | (high_simultaneous > top))
