"""Drawing a figure with matplotlib: PNG, SVG and PDF, 5.5 inches wide; the same data give the same bytes."""

import io
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

from analysis.figures.drawing.axes import set_ticks, under
from analysis.figures.drawing.layout import (
    EDGE,
    TEXT_POINTS,
    Layout,
    LegendPlace,
    Place,
    Words,
    arrange,
    line,
    text_inches,
)
from analysis.figures.drawing.legends import (
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
    lines,
    looks_of,
    strokes,
)
from analysis.figures.drawing.limits import Bounds, bounds, y_limits
from analysis.figures.drawing.model import Figure
from analysis.figures.drawing.style import PLAIN_TEXT, WIDTH_INCHES, Look
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
    "text.hinting": "none",  # at 200 dots per inch it changes little, and it is slow
}

_SHADES, _MANY = ((0.10, 0.22), (0.06, 0.13)), 3
"""Opacities of simultaneous and of pointwise intervals, for few and for many curves in a panel."""

_BAR_POINTS, _ALL_BARS_POINTS = 1.3, 5.0
"""Offset from the bar of one curve to that of the next, and the largest total offset of all curves."""

_BOX = re.compile(r'height="[^"]*" viewBox="[^"]*"')
_WORDS = re.compile(r"^( *)<g id=\"words-\w+\">.*?^\1</g>\n", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Drawing:
    """A drawn figure, which can be written in several formats."""

    figure: Figure
    canvas: Canvas
    layout: Layout

    def save(self, directory: Path, formats: Sequence[str] = ("png", "svg", "pdf")) -> list[Path]:
        """Write one file per format, named after the figure; the directory is created."""
        directory.mkdir(parents=True, exist_ok=True)
        paths = [directory / f"{self.figure.name}.{form}" for form in formats]
        for path, form in zip(paths, formats, strict=True):
            path.write_bytes(self.rendered(form))
        return paths

    def svg(self) -> str:
        """Return the SVG without title and caption, for a page that contains them as text."""
        top, bottom = (72 * inches for inches in self.layout.inner)
        box = f'height="{bottom - top:g}pt" viewBox="0 {top:g} {72 * WIDTH_INCHES:g} {bottom - top:g}"'
        return _BOX.sub(box, _WORDS.sub("", self._svg.decode()), count=1)

    def rendered(self, form: str) -> bytes:
        """Return the figure with title and caption, as ``png``, ``svg`` or ``pdf``."""
        return self._svg if form == "svg" else self._written(form)

    @property
    def boxes(self) -> list[tuple[float, ...]]:
        """Left, top, width and height, in points of the SVG, of the legends and of each panel: the parts that a narrow
        page shows one below the other. Empty if no panels are side by side.
        """
        if len({place.left for place in self.layout.places}) == 1:
            return []
        return [tuple(round(72 * inches, 1) for inches in box) for box in self.layout.parts]

    @cached_property
    def _svg(self) -> bytes:
        return self._written("svg")

    def _written(self, form: str) -> bytes:
        buffer = io.BytesIO()
        dates: dict[str, dict[str, None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
        with mpl.rc_context(_RC):
            faster: dict[str, Any] = {"pil_kwargs": {"compress_level": 3}} if form == "png" else {}
            self.canvas.savefig(buffer, format=form, metadata=dates.get(form, {}), **faster)
        return buffer.getvalue()


def save(figure: Figure, directory: Path, formats: Sequence[str] = ("png", "svg", "pdf")) -> list[Path]:
    """Draw ``figure`` into ``directory``, one file per format, named after the figure."""
    return drawing(figure).save(directory, formats)


def draw(figure: Figure) -> Canvas:
    """Return the canvas of ``drawing``."""
    return drawing(figure).canvas


def drawing(figure: Figure) -> Drawing:
    """Draw all panels with their legends, the title above and the caption below."""
    with mpl.rc_context(_RC):
        handles = legends(figure)
        layout = arrange(figure, under, {kind: lines(entries) for kind, entries in handles.items()})
        canvas = Canvas(figsize=(WIDTH_INCHES, layout.height))
        how = {kind: (looks_of(figure, kind), strokes(figure, kind)) for kind in handles if kind}
        for place in layout.places:
            _draw_panel(canvas, layout.height, place, *how[place.panel.by])
        for legend in layout.legends:
            _draw_legends(canvas, layout.height, legend, handles)
        for words in layout.words:
            _say(canvas, layout.height, words)
    return Drawing(figure, canvas, layout)


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


def _draw_legends(canvas: Canvas, height: float, place: LegendPlace, handles: Mapping[str, list[Line2D]]) -> None:
    """Draw stacked legends."""
    top = place.top
    for entries in filter(None, (handles[kind] for kind in place.kinds)):
        wide = columns(entries)
        canvas.legend(
            handles=by_rows(entries, wide),
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
        top += lines(entries) * line(TEXT_POINTS)


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
    ax.set_ylim(*y_limits(panel.points, panel.quantity))
    if panel.quantity.zero:
        ax.axhline(0, color="#444444", linewidth=0.8, zorder=1)
    set_ticks(ax, panel, place.width)
    # fixed positions: matplotlib does not search for them again in each format
    ax.set_title(place.title, fontsize=TEXT_POINTS, loc="left", y=1, pad=3, x=-0.2 / place.width)
    if place.y_label:
        fits = (text for text in panel.quantity.texts if text_inches(text, TEXT_POINTS) <= place.height)
        ax.set_ylabel(next(fits, panel.quantity.texts[-1]))
        ax.yaxis.set_label_coords(-0.3 / place.width, 0.5)
    if place.label:
        ax.set_xlabel(place.label)
        ax.xaxis.set_label_coords(0.5, -(place.below + 0.03) / place.height)


class _Pen(NamedTuple):
    """Draws one of several curves in a panel."""

    ax: Axes
    look: Look
    dash: tuple[float, ...]
    fill: Any
    number: int
    curves: int

    def bars(self, x: Floats, low: Floats, high: Floats, **style: Any) -> None:
        """Draw bars from low to high, slightly offset from x, so that those of several curves are side by side."""
        shift = (self.number - (self.curves - 1) / 2) * min(_BAR_POINTS, _ALL_BARS_POINTS / self.curves)
        canvas = self.ax.get_figure(root=True)
        assert canvas is not None
        beside = self.ax.transData + ScaledTranslation(shift / 72, 0, canvas.dpi_scale_trans)
        self.ax.vlines(x, low, high, color=self.look.colour, **style).set_transform(beside)

    def few(self, x: Floats, intervals: Bounds) -> None:
        """Draw the intervals of few trials or pairs."""
        if (of := intervals.few).any():
            self.bars(x[of], intervals.low[of], intervals.high[of], linewidth=0.8, linestyles=[(0, FEW_DASH)])

    def marks(self, x: Floats, y: Floats, few: NDArray[np.bool_], line: Mapping[str, Any]) -> None:
        """Draw the means; those of few trials or pairs have small markers.

        Args:
            line: style of the line that joins them; empty for none.
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
                    clip_on=False,  # a mean is within the axes, but its marker may extend beyond them, at 0 %
                )


def _draw_curve(pen: _Pen, curve: pd.DataFrame) -> None:
    """Draw intervals as bands, and joined means."""
    x, y, intervals = curve["x"].to_numpy(np.float64), curve["mean"].to_numpy(np.float64), bounds(curve)
    simultaneous, pointwise = _SHADES[pen.curves > _MANY]
    for low, high, alpha in ((*intervals[2:4], simultaneous), (*intervals[:2], pointwise)):
        low = np.where(intervals.few, np.nan, low)
        if np.isnan(low).all():
            continue
        pen.ax.fill_between(x, low, high, color=pen.look.colour, alpha=alpha, linewidth=0)
        if (alone := _alone(low)).any():
            pen.bars(x[alone], low[alone], high[alone], alpha=2.5 * alpha, linewidth=2.5)
    pen.few(x, intervals)
    line: dict[str, Any] = {"linewidth": LINE_POINTS, "linestyle": (0, pen.dash) if pen.dash else "-"}
    if intervals.few.any():
        pen.ax.plot(x, y, color=pen.look.colour, **line)
        line = {}
    pen.marks(x, y, intervals.few, line)


def _draw_apart(pen: _Pen, points: pd.DataFrame) -> None:
    """Draw points with their intervals, not joined, each slightly offset so that series do not hide one another.

    Thick bars are pointwise intervals, thin bars simultaneous ones.
    """
    x = points["x"].to_numpy(np.float64) + (pen.number + 1) / (pen.curves + 1) - 0.5
    alone, intervals = pen._replace(number=0, curves=1), bounds(points)
    for low, high, width in ((*intervals[2:4], 0.8), (*intervals[:2], 2.4)):
        if (firm := ~intervals.few & ~np.isnan(low)).any():
            alone.bars(x[firm], low[firm], high[firm], alpha=0.6, linewidth=width)
    alone.few(x, intervals)
    alone.marks(x, points["mean"].to_numpy(np.float64), intervals.few, {})


def _alone(bounds: Floats) -> NDArray[np.bool_]:
    """Return the points with an interval whose neighbours have none, where a band between bounds would be invisible."""
    known = np.concatenate([[False], ~np.isnan(bounds), [False]])
    return np.asarray(known[1:-1] & ~known[:-2] & ~known[2:])
