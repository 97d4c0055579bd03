"""What a figure is before it is drawn: panels of points with intervals, and words."""

from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

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


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes."""

    title: str
    quantity: Literal["accuracy", "delta"]
    against: Literal["images", "epoch", "epsilon"]
    points: pd.DataFrame


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

    def table(self) -> pd.DataFrame:
        """All numbers of the figure, one row a point."""
        return pd.concat(
            [
                panel.points[list(POINTS)].assign(panel=panel.title, quantity=panel.quantity, against=panel.against)
                for panel in self.panels
            ],
            ignore_index=True,
        )
