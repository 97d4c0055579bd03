"""The axes of panels. Other figures, including those in other packages, may define further axes."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Axis:
    """The horizontal or vertical axis of a panel."""

    column: str
    """Name of the quantity in the figure's table."""
    label: str
    unit: str = ""
    """Shown after the label, in parentheses."""
    short_unit: str = ""
    """Used instead of ``unit`` where that does not fit."""
    scale: Literal["linear", "log2"] = "linear"
    """Scale of a horizontal axis. With log2, each size has a tick, and the points of whole training sets share one."""
    whole: bool = False
    """Whether ticks of a horizontal axis are whole numbers."""
    first_apart: bool = False
    """Whether a line separates the first of named ticks (``Panel.ticks``) from the others."""
    least: float = float("-inf")
    most: float = float("inf")
    """Limits that a vertical axis does not exceed."""
    least_span: float = 0.0
    """Smallest range of a vertical axis, from end to end."""
    zero: bool = False
    """Whether a vertical axis always includes 0, marked by a line."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The possible labels of the axis, longest first."""
        units = dict.fromkeys((self.unit, self.short_unit or self.unit))
        return tuple(f"{self.label} ({unit})" if unit else self.label for unit in units)


_LEAST_SPAN = 2.0
"""In percentage points. In a smaller range, tick labels would have more digits than are meaningful."""


def percent(column: str, label: str) -> Axis:
    """Return a vertical axis within 0 to 100 %."""
    return Axis(column=column, label=label, unit="%", least=0.0, most=101.0, least_span=_LEAST_SPAN)


ACCURACY = percent("accuracy", "test accuracy")
DELTA = Axis(
    column="delta",
    label="delta",
    unit="percentage points",
    short_unit="points",
    least_span=_LEAST_SPAN,
    zero=True,
)
IMAGES = Axis(column="images", label="training images", scale="log2")
EPOCH = Axis(column="epoch", label="epoch", whole=True)
AXES = {axis.column: axis for axis in (IMAGES, EPOCH)}
"""Horizontal axes, by the column of evaluations that they show."""
