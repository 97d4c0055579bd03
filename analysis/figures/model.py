"""What a figure is before it is drawn: panels of points with intervals, and words."""

from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from analysis.cells import FEW_PAIRS

POINTS = (
    "series",
    "arm",
    "variant",
    "x",
    "whole",
    "mean",
    "low",
    "high",
    "low_simultaneous",
    "high_simultaneous",
    "n",
)
"""Columns of a panel's points. ``series`` has a colour and marker (a dataset, a source, a number of blocks),
``arm`` a dash (a source), ``variant`` a fill (imported or which recipe; empty where all are alike); ``whole`` marks
the point of the whole training set; ``n`` counts trials or pairs. Bounds are NaN where there is none."""

INTERVALS = (
    "Darker shade: 95 % paired t interval of the mean delta (t interval of the mean accuracy), point by point; "
    "lighter shade: all points of a curve at once (Bonferroni). It covers subset and fine-tuning noise, given one "
    "checkpoint per source and a fixed test set. A point without shade is a single trial or pair."
)

_FEW = (
    f"Fine-tuned networks are means over seeds. From {FEW_PAIRS} networks on, {{}} are 95 % t intervals of the mean: "
    "{} point by point, {} all points of a curve at once (Bonferroni)."
)
FEW = _FEW.format("shades", "darker", "lighter")
"""What the shades of ``points.mean_points`` are."""
FEW_APART = _FEW.format("bars", "thick", "thin")
"""What its bars are where points are not joined (``Panel.ticks``)."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes."""

    title: str
    quantity: Literal["accuracy", "delta", "match", "bias"]
    against: Literal["images", "epoch", "epsilon", "k", "category", "frozen BatchNorm"]
    points: pd.DataFrame
    ticks: tuple[str, ...] = ()
    """Names of x = 0, 1, ..., where it has no order; points are then not joined."""

    @property
    def named(self) -> pd.DataFrame:
        """The points, x by its name where it has one."""
        points = self.points[list(POINTS)]
        return points.assign(x=[self.ticks[x] for x in points["x"]]) if self.ticks else points


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of the paper, or of its kind, ready to be drawn, told or exported."""

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    columns: int = 2
    notes: tuple[str, ...] = field(default=())
    """What differs from the paper's figure because the results differ."""
    intervals: str = INTERVALS
    """What the shades are."""

    @property
    def words(self) -> str:
        """What stands under the figure."""
        return " ".join([self.caption, *(f"{note}." for note in self.notes), self.intervals])

    def table(self) -> pd.DataFrame:
        """All numbers of the figure, one row a point."""
        return pd.concat(
            [
                panel.named.assign(panel=panel.title, quantity=panel.quantity, against=panel.against)
                for panel in self.panels
            ],
            ignore_index=True,
        )
