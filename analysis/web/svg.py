"""Axes with round ticks, and the shapes of marks, for charts as SVG."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

SHAPES = 8
"""Number of different marks."""

INK, SOFT, GRID, PANEL = "#1b1f23", "#565e67", "#e6e8ea", "#ffffff"
"""Colours of text, of less important text, of grids, and of what marks lie on: those of ``theme.css`` in the light.

A chart that can leave its page has them as attributes, and classes by which a page replaces them in the dark."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"

MARK = 3.6
"""Half the size of a mark, in pixels."""


class Axis(NamedTuple):
    """An axis: its label, range, and ticks with their labels."""

    label: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]


def axis(
    label: str, values: Iterable[float], *, around: Sequence[float] = (), most: int = 6, whole: bool = False
) -> Axis:
    """Return an axis over finite values, with round ticks.

    Args:
        around: values that are included.
        most: about how many ticks there are.
        whole: whether all ticks are whole numbers.
    """
    finite = [value for value in (*values, *around) if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if high - low < 1e-9:
        low, high = low - 1, high + 1
    step = _round_step(max((high - low) / most, 1.0 if whole else 0.0))
    ticks = [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    margin = 0.04 * (high - low)
    return Axis(
        label,
        low - margin,
        high + margin,
        [(tick, f"{tick:.{decimals}f}".replace("-", "\N{MINUS SIGN}")) for tick in ticks],
    )


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def scale(of: Axis, start: float, end: float) -> Callable[[float], float]:
    """Return the position in pixels of a value, from ``start`` at the low end of the axis to ``end``."""
    span = of.high - of.low

    def place(value: float) -> float:
        """Return pixels; far outside of the axis, values are drawn at its edge, which is cut off."""
        share = (value - of.low) / span
        return start + (end - start) * min(max(share, -1.0), 2.0)

    return place


def shape(number: int, x: float, y: float) -> str:
    """Return the path of a mark, numbered as in ``style.MARKERS``: circle, square, triangle, and so on."""
    return _path(_outline(number % SHAPES, MARK), x, y)


def _outline(number: int, size: float) -> list[tuple[float, float]]:
    """Return the corners of a mark around the origin; none for a circle."""
    wide, arm = 1.25 * size, 0.45 * size
    match number:
        case 0:
            return []
        case 1:
            return [(-size, -size), (size, -size), (size, size), (-size, size)]
        case 2:
            return [(0, -wide), (wide, size), (-wide, size)]
        case 3:
            return [(0, -1.1 * wide), (1.1 * wide, 0), (0, 1.1 * wide), (-1.1 * wide, 0)]
        case 4:
            return [(0, wide), (wide, -size), (-wide, -size)]
        case 7:
            turns = [math.pi * (corner / 5 - 0.5) for corner in range(10)]
            radii = [(1.6 if corner % 2 == 0 else 0.65) * size for corner in range(10)]
            return [
                (radius * math.cos(turn), radius * math.sin(turn)) for radius, turn in zip(radii, turns, strict=True)
            ]
        case _:
            plus = [(arm, -wide), (arm, -arm), (wide, -arm)]
            corners = [(sx * x, sy * y) for sx, sy, part in _QUARTERS for x, y in plus[::part]]
            turn = math.sqrt(0.5)
            return corners if number == 5 else [(turn * (x - y), turn * (x + y)) for x, y in corners]


_QUARTERS = ((1, 1, 1), (1, -1, -1), (-1, -1, 1), (-1, 1, -1))
"""Signs of x and y, and the direction in which the corners of a plus follow one another, by quarter."""


def _path(corners: list[tuple[float, float]], x: float, y: float) -> str:
    if not corners:
        return f"M{x - MARK:.1f} {y:.1f}a{MARK} {MARK} 0 1 0 {2 * MARK} 0a{MARK} {MARK} 0 1 0 {-2 * MARK} 0z"
    return "M" + "L".join(f"{x + right:.1f} {y + down:.1f}" for right, down in corners) + "z"
