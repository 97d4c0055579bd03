"""Drawing a figure with matplotlib: PNG, SVG and PDF, the same bytes from the same data."""

import io
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from analysis.cells import FEW_PAIRS
from analysis.figures.model import Figure, Panel
from analysis.figures.style import DASHES, PLAIN_TEXT, Look, looks
from analysis.statistics.paired_t import Floats

_PANEL_INCHES = (4.6, 3.5)
_NAMED_CHARACTERS = 34  # of a line over a panel whose places have names
_RC: Any = {
    **PLAIN_TEXT,
    "svg.hashsalt": "deltasweep",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "figure.dpi": 150,
}
_AXIS = {
    "accuracy": "test accuracy (%)",
    "delta": "delta (percentage points)",
    "match": "of the same label (%)",
    "bias": "shape bias (%)",
}


def save(figure: Figure, directory: Path, formats: Sequence[str] = ("png", "svg", "pdf")) -> list[Path]:
    """Draw ``figure`` into ``directory``, one file a format, named after the figure."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{figure.name}.{fmt}" for fmt in formats]
    with mpl.rc_context(_RC):
        canvas = draw(figure)
        cut = _laid_out(canvas)
        for path in paths:
            date = {"Date": None} if path.suffix == ".svg" else {"CreationDate": None} if path.suffix == ".pdf" else {}
            canvas.savefig(path, metadata={**date}, bbox_inches=cut)
    return paths


def svg(figure: Figure) -> str:
    """The panels and the legend alone, as SVG text: for a page that says title and caption itself."""
    buffer = io.StringIO()
    with mpl.rc_context(_RC):
        canvas = draw(figure, words=False)
        canvas.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches=_laid_out(canvas))
    return buffer.getvalue()


def _laid_out(canvas: Canvas) -> Bbox:
    """Lay a canvas out once, and say what of it is drawn on, in inches: each format would find out both again."""
    canvas.draw_without_rendering()
    canvas.set_layout_engine(None)  # not "none", which lays out again for each format
    return canvas.get_tightbbox().padded(mpl.rcParams["savefig.pad_inches"])


def draw(figure: Figure, words: bool = True) -> Canvas:
    """A canvas with all panels and one legend; with ``words`` the title above and the caption below."""
    columns = min(figure.columns, len(figure.panels))
    rows = math.ceil(len(figure.panels) / columns)
    canvas = Canvas(figsize=(_PANEL_INCHES[0] * columns, _PANEL_INCHES[1] * rows), layout="constrained")
    axes = list(canvas.subplots(rows, columns, squeeze=False).flat)
    for ax in axes[len(figure.panels) :]:
        ax.set_axis_off()
    for ax, panel in zip(axes, figure.panels, strict=False):
        _draw_panel(ax, panel, looks(_series(figure)))
    canvas.legend(handles=_handles(figure), loc="outside right upper", frameon=False, fontsize=8)
    if words:
        canvas.suptitle(figure.title, fontsize=11, fontweight="bold", x=0.01, ha="left")
        _caption(canvas, figure, columns)
    return canvas


def _series(figure: Figure) -> list[str]:
    return [name for panel in figure.panels for name in panel.points["series"]]


def _draw_panel(ax: Axes, panel: Panel, looks_of: dict[str, Look]) -> None:
    points = panel.points
    arms, variants = list(dict.fromkeys(points["arm"])), list(dict.fromkeys(points["variant"]))
    curves = points.groupby(["series", "arm", "variant"], sort=False)
    for number, ((series, arm, variant), curve) in enumerate(curves):
        look, hollow = looks_of[str(series)], variants.index(variant) > 0
        dash = DASHES[(arms.index(arm) + 2 * variants.index(variant)) % len(DASHES)]
        if panel.ticks:
            _draw_apart(ax, curve, look, (number + 1) / (curves.ngroups + 1) - 0.5, hollow)
        else:
            _draw_curve(ax, curve, look, dash, hollow)
    title = textwrap.fill(panel.title, _NAMED_CHARACTERS) if panel.ticks else panel.title
    ax.set_title(title, fontsize=9, loc="left")
    ax.set_ylabel(_AXIS[panel.quantity])
    ax.set_ylim(*y_limits(panel))
    if panel.quantity == "delta":
        ax.axhline(0, color="#444444", linewidth=1, zorder=1)
    if panel.ticks:
        _named_axis(ax, panel)
    elif panel.against == "images":
        _image_axis(ax, points)
    else:
        ax.set_xlabel(f"{panel.against}\n{_counts_text(points)}")


def y_limits(panel: Panel) -> tuple[float, float]:
    """From means and from the intervals that rest on enough pairs; a wide one of two trials is cut, not followed."""
    points = panel.points
    firm = points[points["n"] >= FEW_PAIRS]
    values = pd.concat([points["mean"], firm["low_simultaneous"], firm["high_simultaneous"]]).dropna()
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if panel.quantity == "delta":
        low, high = min(low, 0.0), max(high, 0.0)
    margin = 0.06 * max(high - low, 1.0)
    if panel.quantity == "delta":
        return low - margin, high + margin
    return max(low - margin, 0.0), min(high + margin, 101.0)


def _draw_curve(ax: Axes, curve: pd.DataFrame, look: Look, dash: tuple[float, ...], hollow: bool) -> None:
    x = curve["x"].to_numpy()
    for suffix, alpha in (("_simultaneous", 0.10), ("", 0.22)):
        low, high = curve[f"low{suffix}"].to_numpy(), curve[f"high{suffix}"].to_numpy()
        ax.fill_between(x, low, high, color=look.colour, alpha=alpha, linewidth=0)
        alone = _alone(low)
        ax.vlines(x[alone], low[alone], high[alone], color=look.colour, alpha=2.5 * alpha, linewidth=3)
    line = ax.plot(x, curve["mean"], color=look.colour, marker=look.marker, markersize=4.5, linewidth=1.4)[0]
    line.set_dashes(dash) if dash else line.set_linestyle("-")
    if hollow:
        line.set_markerfacecolor("white")


def _draw_apart(ax: Axes, points: pd.DataFrame, look: Look, beside: float, hollow: bool) -> None:
    """Points with their intervals, none joined: each a little beside its place, so that series do not hide others.

    Thick bars: intervals point by point; thin ones: all at once. Hollow with dotted bars: intervals of few pairs.
    """
    few = (points["n"] < FEW_PAIRS) & points["low"].notna()
    for cautious, shown in points.assign(x=points["x"] + beside).groupby(few):
        x = shown["x"].to_numpy()
        for suffix, width in (("_simultaneous", 1.0), ("", 3.0)):
            low, high = shown[f"low{suffix}"].to_numpy(), shown[f"high{suffix}"].to_numpy()
            ax.vlines(
                *(x, low, high),
                color=look.colour,
                alpha=0.6,
                linewidth=width,
                linestyles="dotted" if cautious else "solid",
            )
        fill = "white" if hollow or cautious else look.colour
        ax.plot(x, shown["mean"], look.marker, color=look.colour, markersize=4.5, markerfacecolor=fill)


def _alone(bounds: Floats) -> NDArray[np.bool_]:
    """The points with an interval whose neighbours on the curve have none: an area between bounds shows nothing."""
    known = np.concatenate([[False], ~np.isnan(bounds), [False]])
    return np.asarray(known[1:-1] & ~known[:-2] & ~known[2:])


def _named_axis(ax: Axes, panel: Panel) -> None:
    """A tick for each name, with room for several series; of categories the first stands for all."""
    ax.set_xticks(range(len(panel.ticks)), panel.ticks, rotation=_slant(len(panel.ticks)), fontsize=7)
    ax.set_xlim(-0.6, len(panel.ticks) - 0.4)
    if panel.against == "category":
        ax.axvline(0.5, color="#444444", linewidth=0.8, zorder=1)
    ax.set_xlabel(f"{panel.against}\n{_counts_text(panel.points)}")


def _slant(names: int) -> int:
    """Degrees by which so many names are turned to stand beside each other."""
    return 0 if names < 5 else 45 if names < 13 else 90


def _image_axis(ax: Axes, points: pd.DataFrame) -> None:
    """Log-2 axis; a tick a size, with the number of trials or pairs under it; whole sets share the tick 'all'."""
    ax.set_xscale("log", base=2)
    sizes = points[~points["whole"].astype(bool)]
    ticks = [(float(x), _size_text(x), _n_text(sizes.loc[sizes["x"] == x, "n"])) for x in sorted(set(sizes["x"]))]
    whole = points[points["whole"].astype(bool)]
    if not whole.empty:
        centre = math.sqrt(whole["x"].min() * whole["x"].max())
        ticks.append((centre, "all", _n_text(whole["n"])))
    ax.xaxis.set_major_locator(FixedLocator([x for x, _, _ in ticks]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticklabels([f"{size}\n{n}" for _, size, n in ticks], fontsize=7)
    ax.set_xlabel("training images (log 2), and n a point")


def _size_text(size: int) -> str:
    return f"{size / 1000:g}k" if size >= 1000 else str(size)


def _n_text(counts: "pd.Series[int]") -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low}" if low == high else f"{low}-{high}"


def _counts_text(points: pd.DataFrame) -> str:
    return f"n = {_n_text(points['n'])} a point" if len(points) else "no points"


def _handles(figure: Figure) -> list[Line2D]:
    """Colour and marker by series; dash by arm where a panel has several; fill by variant."""
    found = looks(_series(figure))
    handles = [Line2D([], [], color=look.colour, marker=look.marker, label=name) for name, look in found.items()]
    panels = [panel.points for panel in figure.panels if panel.points["arm"].nunique() > 1]
    arms = list(dict.fromkeys(arm for points in panels for arm in points["arm"]))
    if arms and not set(arms) <= set(found):
        for index, arm in enumerate(arms):
            handles.append(
                Line2D([], [], color="#555555", label=arm, dashes=DASHES[index % len(DASHES)] or (None, None))
            )
    variants = list(dict.fromkeys(variant for panel in figure.panels for variant in panel.points["variant"]))
    if len(variants) > 1:
        fills = ["#555555", *["white"] * (len(variants) - 1)]
        handles += [
            Line2D([], [], color="#555555", marker="o", linestyle="", markerfacecolor=fill, label=variant)
            for variant, fill in zip(variants, fills, strict=True)
        ]
    return handles


def _caption(canvas: Canvas, figure: Figure, columns: int) -> None:
    lines = textwrap.wrap(figure.words, 62 * columns)
    canvas.text(0.01, -0.01, "\n".join(lines), va="top", ha="left", fontsize=7.5, color="#333333")
