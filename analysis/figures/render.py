"""Drawing a figure with matplotlib: PNG, SVG and PDF, the same bytes from the same data, 5.5 inches wide."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from analysis.figures.axes import set_ticks, under
from analysis.figures.layout import EDGE, TEXT_POINTS, LegendPlace, Place, Words, arrange, line, text_inches
from analysis.figures.legends import (
    BETWEEN,
    FEW_DASH,
    FEW_MARK_POINTS,
    HANDLE,
    LINE_POINTS,
    MARK_POINTS,
    PAD,
    Strokes,
    by_rows,
    columns,
    legends,
    looks_of,
    strokes,
)
from analysis.figures.limits import Bounds, bounds, y_limits
from analysis.figures.model import Figure
from analysis.figures.style import PLAIN_TEXT, WIDTH_INCHES, Look
from analysis.statistics.paired_t import Floats

_RC: Any = {
    **PLAIN_TEXT,
    "svg.hashsalt": "deltasweep",
    "svg.fonttype": "none",
    "font.size": TEXT_POINTS,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "figure.dpi": 200,
}

_AXIS = {
    "accuracy": ("test accuracy (%)",),
    "delta": ("delta (percentage points)", "delta (points)"),
    "match": ("of the same label (%)",),
    "bias": ("shape bias (%)",),
}
"""What an axis is, and in short where it is not long enough."""

_SHADES, _MANY = ((0.10, 0.22), (0.06, 0.13)), 3
"""Opacities of simultaneous intervals and of those point by point, for few curves in a panel and for many."""

_BAR_POINTS, _ALL_BARS_POINTS = 1.3, 5.0
"""From one bar of an interval to that of the next curve, and of all curves together."""

_BOX = re.compile(r'height="[^"]*" viewBox="[^"]*"')
_WORDS = re.compile(r"^( *)<g id=\"words-\w+\">.*?^\1</g>\n", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Drawing:
    """A figure that is drawn, to be written in several formats."""

    figure: Figure
    canvas: Canvas
    inner: tuple[float, float]
    """Top and bottom, in inches from above, of what stands between title and caption."""

    def save(self, directory: Path, formats: Sequence[str] = ("png", "svg", "pdf")) -> list[Path]:
        """One file a format, named after the figure; the directory is made."""
        directory.mkdir(parents=True, exist_ok=True)
        paths = [directory / f"{self.figure.name}.{form}" for form in formats]
        for path, form in zip(paths, formats, strict=True):
            path.write_bytes(self._svg if form == "svg" else self._written(form))
        return paths

    def svg(self) -> str:
        """Without title and caption, for a page that says them itself."""
        top, bottom = (72 * inches for inches in self.inner)
        box = f'height="{bottom - top:g}pt" viewBox="0 {top:g} {72 * WIDTH_INCHES:g} {bottom - top:g}"'
        return _BOX.sub(box, _WORDS.sub("", self._svg.decode()), count=1)

    @cached_property
    def _svg(self) -> bytes:
        return self._written("svg")

    def _written(self, form: str) -> bytes:
        buffer = io.BytesIO()
        dates: dict[str, dict[str, None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
        with mpl.rc_context(_RC):
            self.canvas.savefig(buffer, format=form, metadata=dates.get(form, {}))
        return buffer.getvalue()


def save(figure: Figure, directory: Path, formats: Sequence[str] = ("png", "svg", "pdf")) -> list[Path]:
    """Draw ``figure`` into ``directory``, one file a format, named after the figure."""
    return drawing(figure).save(directory, formats)


def draw(figure: Figure) -> Canvas:
    """The canvas of ``drawing``."""
    return drawing(figure).canvas


def drawing(figure: Figure) -> Drawing:
    """All panels with their legends, the title above and the caption below."""
    with mpl.rc_context(_RC):
        told = legends(figure)
        rows = {kind: math.ceil(len(handles) / columns(handles)) for kind, handles in told.items()}
        layout = arrange(figure, under, rows)
        canvas = Canvas(figsize=(WIDTH_INCHES, layout.height))
        how = {kind: (looks_of(figure, kind), strokes(figure, kind)) for kind in told if kind}
        for place in layout.places:
            _draw_panel(canvas, layout.height, place, *how[place.panel.by])
        for one in layout.legends:
            _draw_legends(canvas, layout.height, one, told)
        for words in layout.words:
            _say(canvas, layout.height, words)
    return Drawing(figure, canvas, layout.inner)


def _say(canvas: Canvas, height: float, words: Words) -> None:
    canvas.text(
        *(EDGE / WIDTH_INCHES, 1 - words.top / height, words.text),
        gid=f"words-{words.kind}" if words.kind in ("title", "caption") else None,
        va="top",
        ha="left",
        fontsize=words.points,
        fontweight="bold" if words.bold else "normal",
        linespacing=1.2,
    )


def _draw_legends(canvas: Canvas, height: float, place: LegendPlace, told: Mapping[str, list[Line2D]]) -> None:
    """One below the other."""
    top = place.top
    for handles in filter(None, (told[kind] for kind in place.kinds)):
        wide = columns(handles)
        canvas.legend(
            handles=by_rows(handles, wide),
            loc="upper left",
            bbox_to_anchor=(EDGE / WIDTH_INCHES, 1 - top / height),
            ncols=wide,
            frameon=False,
            fontsize=TEXT_POINTS,
            handlelength=HANDLE,
            handletextpad=PAD,
            columnspacing=BETWEEN,
            labelspacing=0.25,
            borderpad=0,
            borderaxespad=0,
        )
        top += math.ceil(len(handles) / wide) * line(TEXT_POINTS)


def _draw_panel(canvas: Canvas, whole: float, place: Place, looks: Mapping[str, Look], how: Strokes) -> None:
    panel, points = place.panel, place.panel.points
    bottom = 1 - (place.top + place.height) / whole
    size = (place.width / WIDTH_INCHES, place.height / whole)
    ax = canvas.add_axes((place.left / WIDTH_INCHES, bottom, *size))
    curves = points.groupby(["series", "arm", "variant"], sort=False)
    for number, ((series, arm, variant), curve) in enumerate(curves):
        dash, fill = how.of(str(series), str(arm), str(variant))
        pen = _Pen(ax, looks[str(series)], dash, fill, number, curves.ngroups)
        if panel.ticks:
            _draw_apart(pen, curve)
        else:
            _draw_curve(pen, curve)
    ax.set_ylim(*y_limits(panel))
    if panel.quantity == "delta":
        ax.axhline(0, color="#444444", linewidth=0.8, zorder=1)
    set_ticks(ax, panel, place.width)
    # places that are given are not looked for anew in each format
    ax.set_title(place.title, fontsize=TEXT_POINTS, loc="left", y=1, pad=3, x=-0.2 / place.width)
    if place.y_label:
        fits = (said for said in _AXIS[panel.quantity] if text_inches(said, TEXT_POINTS) <= place.height)
        ax.set_ylabel(next(fits, _AXIS[panel.quantity][-1]))
        ax.yaxis.set_label_coords(-0.3 / place.width, 0.5)
    if place.label:
        ax.set_xlabel(place.label)
        ax.xaxis.set_label_coords(0.5, -(place.below + 0.03) / place.height)


class _Pen(NamedTuple):
    """What draws one curve of several in a panel."""

    ax: Axes
    look: Look
    dash: tuple[float, ...]
    fill: Any
    number: int
    curves: int

    def bars(self, x: Floats, low: Floats, high: Floats, **style: Any) -> None:
        """From low to high; a little beside x, so that those of several curves stand beside each other."""
        shift = (self.number - (self.curves - 1) / 2) * min(_BAR_POINTS, _ALL_BARS_POINTS / self.curves)
        canvas = self.ax.get_figure(root=True)
        assert canvas is not None
        beside = self.ax.transData + ScaledTranslation(shift / 72, 0, canvas.dpi_scale_trans)
        self.ax.vlines(x, low, high, color=self.look.colour, **style).set_transform(beside)

    def few(self, x: Floats, found: Bounds) -> None:
        """The intervals of few trials or pairs."""
        if (of := found.few).any():
            self.bars(x[of], found.low[of], found.high[of], linewidth=0.8, linestyles=[(0, FEW_DASH)])

    def marks(self, x: Floats, y: Floats, few: NDArray[np.bool_], line: Mapping[str, Any]) -> None:
        """The means; those of few trials or pairs are small.

        Args:
            line: that joins them, if any.
        """
        for chosen, points in ((~few, MARK_POINTS), (few, FEW_MARK_POINTS)):
            if chosen.any():
                self.ax.plot(
                    *(x[chosen], y[chosen]),
                    marker=self.look.marker,
                    color=self.look.colour,
                    **(line or {"linestyle": ""}),
                    markersize=points,
                    markeredgewidth=0.7,
                    fillstyle=self.fill,
                    markerfacecoloralt="white",
                    clip_on=False,  # a mean lies within the axes; its mark may reach over them, at 0 %
                )


def _draw_curve(pen: _Pen, curve: pd.DataFrame) -> None:
    """Shades of intervals, and means that are joined."""
    x, y, found = curve["x"].to_numpy(np.float64), curve["mean"].to_numpy(np.float64), bounds(curve)
    simultaneous, pointwise = _SHADES[pen.curves > _MANY]
    for low, high, alpha in ((*found[2:4], simultaneous), (*found[:2], pointwise)):
        low = np.where(found.few, np.nan, low)
        if np.isnan(low).all():
            continue
        pen.ax.fill_between(x, low, high, color=pen.look.colour, alpha=alpha, linewidth=0)
        if (alone := _alone(low)).any():
            pen.bars(x[alone], low[alone], high[alone], alpha=2.5 * alpha, linewidth=2.5)
    pen.few(x, found)
    line: dict[str, Any] = {"linewidth": LINE_POINTS, "linestyle": (0, pen.dash) if pen.dash else "-"}
    if found.few.any():
        pen.ax.plot(x, y, color=pen.look.colour, **line)
        line = {}
    pen.marks(x, y, found.few, line)


def _draw_apart(pen: _Pen, points: pd.DataFrame) -> None:
    """Points with their intervals, none joined: each a little beside its place, so that series do not hide others.

    Thick bars: intervals point by point; thin ones: all at once.
    """
    x = points["x"].to_numpy(np.float64) + (pen.number + 1) / (pen.curves + 1) - 0.5
    alone, found = pen._replace(number=0, curves=1), bounds(points)
    for low, high, width in ((*found[2:4], 0.8), (*found[:2], 2.4)):
        if (firm := ~found.few & ~np.isnan(low)).any():
            alone.bars(x[firm], low[firm], high[firm], alpha=0.6, linewidth=width)
    alone.few(x, found)
    alone.marks(x, points["mean"].to_numpy(np.float64), found.few, {})


def _alone(bounds: Floats) -> NDArray[np.bool_]:
    """The points with an interval whose neighbours on the curve have none: an area between bounds shows nothing."""
    known = np.concatenate([[False], ~np.isnan(bounds), [False]])
    return np.asarray(known[1:-1] & ~known[:-2] & ~known[2:])
