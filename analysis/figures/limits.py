"""What of a panel its frame shows: the ends of its axis, and the intervals that they cut."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.cells import FEW_PAIRS
from analysis.statistics.paired_t import Floats

if TYPE_CHECKING:
    from analysis.figures.model import Panel

_LEAST = 2.0
"""Points of percent that a frame shows at least: ticks of fewer have more digits than these numbers are worth."""


class Bounds(NamedTuple):
    """The intervals of points that are drawn; NaN where there is none."""

    low: Floats
    high: Floats
    low_simultaneous: Floats
    high_simultaneous: Floats
    """Of few trials or pairs there is only the interval point by point."""
    few: NDArray[np.bool_]
    """Which rest on two to four trials or pairs."""


def bounds(points: pd.DataFrame) -> Bounds:
    """Those of a panel's points, in percent or percentage points."""
    found = points[["low", "high", "low_simultaneous", "high_simultaneous"]].to_numpy(np.float64).T.copy()
    few = (points["n"].to_numpy() < FEW_PAIRS) & ~np.isnan(found[0])
    found[2:, few] = np.nan
    low, high, low_simultaneous, high_simultaneous = found
    return Bounds(low, high, low_simultaneous, high_simultaneous, few)


def y_limits(panel: "Panel") -> tuple[float, float]:
    """From means and from the intervals that rest on enough pairs; a wide one of two trials is cut, not followed."""
    points = panel.points
    firm = points[points["n"] >= FEW_PAIRS]
    values = pd.concat([points["mean"], firm["low_simultaneous"], firm["high_simultaneous"]]).dropna()
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if panel.quantity == "delta":
        low, high = min(low, 0.0), max(high, 0.0)
    more = max(_LEAST - (high - low), 0.0) / 2
    margin = 0.06 * max(high - low, _LEAST) + more
    if panel.quantity == "delta":
        return low - margin, high + margin
    return max(low - margin, 0.0), min(high + margin, 101.0)


def cut(panel: "Panel") -> NDArray[np.bool_]:
    """The points of whose intervals the frame cuts what is drawn."""
    bottom, top = y_limits(panel)
    low, high, low_simultaneous, high_simultaneous, _ = bounds(panel.points)
    return np.asarray((low < bottom) | (low_simultaneous < bottom) | (high > top) | (high_simultaneous > top))
