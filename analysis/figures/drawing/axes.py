"""The axes below a panel: ticks that do not overlap, whole epochs, and the label below them."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from analysis.figures.drawing.layout import TICK_POINTS, Under, line, text_inches
from analysis.figures.drawing.model import Panel

_BESIDE = 0.05
"""Inches between neighbouring tick labels."""
_PAD = 0.04


def under(panel: Panel, width: float) -> Under:
    """Return the label and the space needed below axes that are ``width`` inches wide."""
    label = panel.against.texts[0]
    if panel.ticks:
        longest = max(text_inches(name, TICK_POINTS) for name in panel.ticks)
        slant = math.radians(_slant(panel, width))
        high = longest * math.sin(slant) + line(TICK_POINTS) * math.cos(slant)
        return Under(f"{label}, {_counts(panel.points)}", _PAD + high)
    if panel.against.scale == "log2" and _several(panel.points):
        return Under(f"{label}, and n", _PAD + 2 * line(TICK_POINTS))
    return Under(f"{label}, {_counts(panel.points)}", _PAD + line(TICK_POINTS))


def set_ticks(ax: Axes, panel: Panel, width: float) -> None:
    """Set the ticks of both axes."""
    ax.tick_params(labelsize=TICK_POINTS, length=2, width=0.6, pad=2)
    ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if panel.ticks:
        _names(ax, panel, width)
    elif panel.against.scale == "log2":
        _sizes(ax, panel.points, width)
    else:
        most, whole = max(2, int(4 * width / 1.5)), panel.against.whole
        ax.xaxis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10], integer=whole, min_n_ticks=1))


def _names(ax: Axes, panel: Panel, width: float) -> None:
    """Set a tick for each name, with room for several series and, for ``first_apart``, a line after the first."""
    slant = _slant(panel, width)
    ax.set_xticks(range(len(panel.ticks)), panel.ticks, rotation=slant, rotation_mode="anchor" if slant else None)
    if slant:
        for label in ax.get_xticklabels():
            label.set(ha="right", va="center" if slant == 90 else "top")
    ax.set_xlim(-0.6, len(panel.ticks) - 0.4)
    if panel.against.first_apart:
        ax.axvline(0.5, color="#444444", linewidth=0.8, zorder=1)


def _slant(panel: Panel, width: float) -> int:
    """Degrees by which names are rotated so that they do not overlap."""
    room = width / len(panel.ticks) - _BESIDE
    widest = max(text_inches(name, TICK_POINTS) for name in panel.ticks)
    return 0 if widest <= room else 45 if line(TICK_POINTS) * math.sqrt(2) <= room + _BESIDE else 90


def _sizes(ax: Axes, points: pd.DataFrame, width: float) -> None:
    """Set a log-2 axis with a tick per size, labelled where it fits, with n if it varies; whole sets share 'all'."""
    ax.set_xscale("log", base=2)
    several = _several(points)
    sizes = points[~points["whole"].astype(bool)]
    ticks = {float(x): _tick(_size(x), sizes.loc[sizes["x"] == x, "n"], several) for x in sorted(set(sizes["x"]))}
    whole = points[points["whole"].astype(bool)]
    if not whole.empty:
        centre = math.sqrt(whole["x"].min() * whole["x"].max())
        ticks[centre] = _tick("all", whole["n"], several)
    low, high = (math.log2(points["x"].min()), math.log2(points["x"].max())) if len(points) else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.5
    ax.set_xlim(2 ** (low - margin), 2 ** (high + margin))
    inches = (np.log2(list(ticks)) - low + margin) / (high - low + 2 * margin) * width
    shown = _fitting(inches.tolist(), list(ticks.values()), last=not whole.empty)
    ax.xaxis.set_major_locator(FixedLocator(list(ticks)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticklabels([text if at in shown else "" for at, text in enumerate(ticks.values())])


def _fitting(inches: Sequence[float], texts: Sequence[str], last: bool) -> set[int]:
    """Select every n-th text, with the smallest n for which none overlap; always the last one if ``last``."""
    halves = [max(text_inches(part, TICK_POINTS) for part in text.split("\n")) / 2 for text in texts]

    def apart(left: int, right: int) -> bool:
        return inches[right] - inches[left] >= halves[left] + halves[right] + _BESIDE

    for step in range(1, len(texts) + 1):
        chosen = list(range(0, len(texts), step))
        if last and chosen[-1] != len(texts) - 1:
            chosen = [place for place in chosen if apart(place, len(texts) - 1)] + [len(texts) - 1]
        elif last and len(chosen) > 1 and not apart(chosen[-2], chosen[-1]):
            del chosen[-2]
        if all(apart(*pair) for pair in pairwise(chosen)):
            return set(chosen)
    return {len(texts) - 1}


def _tick(size: str, counts: "pd.Series[int]", several: bool) -> str:
    return f"{size}\n{_n(counts)}" if several else size


def _several(points: pd.DataFrame) -> bool:
    return points["n"].nunique() > 1


def _size(size: int) -> str:
    return f"{size / 1000:g}k" if size >= 1000 else str(size)


def _n(counts: "pd.Series[int]") -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low}" if low == high else f"{low}\N{EN DASH}{high}"


def _counts(points: pd.DataFrame) -> str:
    return f"n = {_n(points['n'])}" if len(points) else "no points"
