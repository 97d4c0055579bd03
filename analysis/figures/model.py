"""What a figure is before it is drawn: panels of points with intervals, and words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from analysis.cells import FEW_PAIRS
from analysis.figures.limits import cut

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

SHADES = "Shades: 95 % t intervals, darker point by point, lighter a curve at once."
"""What the caption says of the intervals; ``INTERVALS`` says the rest once for a page."""

INTERVALS = (
    "Darker shade: 95 % paired t interval of the mean delta (t interval of the mean accuracy), point by point; "
    "lighter shade: all points of a curve at once (Bonferroni). It covers subset and fine-tuning noise, given one "
    f"checkpoint per source and a fixed test set. Of fewer than {FEW_PAIRS} pairs or trials the interval rests on "
    "normal differences: it is a dotted bar, point by point alone, its mark is small, and a wide one is cut at the "
    "frame. A point without interval is a single trial or pair."
)

_FEW = (
    f"Fine-tuned networks are means over seeds. From {FEW_PAIRS} networks on, {{}} are 95 % t intervals of the mean: "
    "{} point by point, {} all points of a curve at once (Bonferroni)."
)
FEW = _FEW.format("shades", "darker", "lighter")
"""What the shades of ``points.mean_points`` are."""
FEW_APART = _FEW.format("bars", "thick", "thin")
"""What its bars are where points are not joined (``Panel.ticks``)."""
BARS = "Bars: 95 % t intervals, thick point by point, thin a series at once."
"""What the caption says of these."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes."""

    title: str
    quantity: Literal["accuracy", "delta", "match", "bias"]
    against: Literal["images", "epoch", "epsilon", "k", "category", "frozen BatchNorm"]
    points: pd.DataFrame
    by: Literal["dataset", "source", "blocks", "normalization"] = "dataset"
    """What its series are: each has a legend of its own."""
    row: str = ""
    """The name over its row of panels; panels of one name stand together. Empty: none is needed."""
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
    """The most panels beside each other."""
    notes: tuple[str, ...] = field(default=())
    """What differs from the paper's figure because the results differ."""
    shades: str = SHADES
    """What the caption says of the intervals."""
    intervals: str = INTERVALS
    """All that is to be said of them, for the page."""
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """For what series are (``Panel.by``), all names of a report in order: each looks alike in all its figures."""

    @property
    def words(self) -> str:
        """What stands under the figure: what it shows, and what these results make of it."""
        return " ".join([self.shows, *self.remarks])

    @property
    def shows(self) -> str:
        return f"{self.caption} {self.shades}"

    @property
    def remarks(self) -> list[str]:
        """What differs from the paper's, and how many intervals the frames cut."""
        ends = sum(int(cut(panel).sum()) for panel in self.panels)
        drawn = sum(int(panel.points["low"].notna().sum()) for panel in self.panels)
        cuts = [f"{ends} of {drawn} intervals are cut at the frame"] if ends else []
        return [f"{note}." for note in (*self.notes, *cuts)]

    def series(self, by: str) -> list[str]:
        """The names of a legend, in the order of the report, or as the points have them."""
        found = list(dict.fromkeys(name for panel in self.panels if panel.by == by for name in panel.points["series"]))
        order = list(self.names.get(by, ()))
        return sorted(found, key=order.index) if set(found) <= set(order) else found

    def table(self) -> pd.DataFrame:
        """All numbers of the figure, one row a point."""
        return pd.concat(
            [
                panel.named.assign(panel=panel.title, quantity=panel.quantity, against=panel.against)
                for panel in self.panels
            ],
            ignore_index=True,
        )
