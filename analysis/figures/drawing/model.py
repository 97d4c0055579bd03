"""A figure before it is drawn: panels of points with intervals, and text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from analysis.figures.drawing.axis import Axis
from analysis.figures.drawing.limits import cut
from analysis.statistics.paired_t import FEW_VALUES, ROUNDING
from analysis.words import in_a_sentence, without_width

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
"""Columns of a panel's points. ``series`` determines colour and marker (a dataset, a source, a number of blocks),
``arm`` the dash (a source), ``variant`` the fill (imported or which recipe; empty where all are alike); ``whole`` marks
the point of the whole training set; ``n`` counts trials or pairs. Bounds are NaN where there is no interval."""

SHADES = "Bands: 95 % t intervals, darker pointwise, lighter simultaneous over a curve."
"""Sentence on intervals in each caption; ``INTERVALS`` gives the details once per page."""

INTERVALS = (
    "Darker band: pointwise 95 % paired t interval of the mean delta (for accuracies, t interval of the mean); lighter "
    "band: simultaneous over all points of a curve (Bonferroni). Intervals cover subset and fine-tuning noise, given "
    f"one checkpoint per source and a fixed test set. With fewer than {FEW_VALUES} pairs or trials, the interval "
    "assumes normal differences; it is drawn as a dotted bar with a small marker, pointwise only, and clipped at the "
    "frame where it is wide. A point without an interval is a single trial or pair."
)

_FEW = (
    f"Fine-tuned networks are averaged over seeds. From {FEW_VALUES} networks on, {{}} show 95 % t intervals of the "
    "mean: {} pointwise, {} simultaneous over all points of a curve (Bonferroni)."
)
FEW = _FEW.format("bands", "darker", "lighter")
"""Explains the bands of ``analysis.statistics.grouped.curve_means``."""
FEW_APART = _FEW.format("bars", "thick", "thin")
"""Explains its bars, which are drawn where points are not joined (``Panel.ticks``)."""
BARS = "Bars: 95 % t intervals, thick pointwise, thin simultaneous over a series."
"""Sentence on these bars in the caption."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes."""

    title: str
    quantity: Axis
    """The vertical axis."""
    against: Axis
    """The horizontal axis."""
    points: pd.DataFrame
    by: Literal["dataset", "source", "blocks", "normalization"] = "dataset"
    """The kind of series; each kind has its own legend."""
    row: str = ""
    """The heading above its row of panels; panels with the same heading are grouped. Empty: no heading."""
    ticks: tuple[str, ...] = ()
    """Names of the categories x = 0, 1, ...; points are then not joined. Empty if x is a number."""

    @property
    def named(self) -> pd.DataFrame:
        """The points, with x replaced by its name where it has one."""
        points = self.points[list(POINTS)]
        return points.assign(x=[self.ticks[x] for x in points["x"]]) if self.ticks else points


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of the paper, or one like it, ready to be drawn, described or exported."""

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    columns: int = 2
    """The largest number of panels in a row."""
    notes: tuple[str, ...] = field(default=())
    """Remarks that are due to the results, such as differences from the paper's figure; without full stops."""
    shades: str = SHADES
    """Sentence on the intervals, for the caption."""
    intervals: str = INTERVALS
    """Full explanation of the intervals, for the page."""
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """All names of a report in order, by kind of series (``Panel.by``), so that each looks the same in all figures."""

    @property
    def words(self) -> str:
        """The text below the figure: what it shows, and remarks on these results."""
        return " ".join([self.shows, *self.remarks])

    @property
    def shows(self) -> str:
        return f"{self.caption} {self.shades}"

    @property
    def remarks(self) -> list[str]:
        """Remarks on these results, and the numbers of intervals that the frames clip or that have no width."""
        ends = sum(int(cut(panel.points, panel.quantity).sum()) for panel in self.panels)
        widths = [panel.points["high"] - panel.points["low"] for panel in self.panels]
        drawn = sum(int(one.notna().sum()) for one in widths)
        more = [f"{ends} of {drawn} intervals are clipped at the frame"] if ends else []
        if equal := sum(int((one < ROUNDING).sum()) for one in widths):
            more.append(without_width(equal, "point", "values"))
        return [in_a_sentence([note]) for note in (*self.notes, *more)]

    def series(self, by: str) -> list[str]:
        """Return the names in a legend, in the order of the report, or as they occur in the points."""
        shown = list(dict.fromkeys(name for panel in self.panels if panel.by == by for name in panel.points["series"]))
        order = list(self.names.get(by, ()))
        return sorted(shown, key=order.index) if set(shown) <= set(order) else shown

    def table(self) -> pd.DataFrame:
        """Return all numbers of the figure, one row per point."""
        return pd.concat(
            [
                panel.named.assign(panel=panel.title, quantity=panel.quantity.column, against=panel.against.column)
                for panel in self.panels
            ],
            ignore_index=True,
        )
