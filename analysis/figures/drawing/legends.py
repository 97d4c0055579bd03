"""The legends of a figure: series by colour and marker, arms by dash, variants by fill, few trials by marker size."""

from typing import Any, NamedTuple

from matplotlib.lines import Line2D

from analysis.figures.drawing.layout import ALL_ELSE, EDGE, FEW, TEXT_POINTS, text_inches, wrapped
from analysis.figures.drawing.limits import bounds
from analysis.figures.drawing.model import Figure
from analysis.figures.drawing.style import DASHES, FILLS, WIDTH_INCHES, Look, looks
from analysis.statistics.paired_t import FEW_VALUES

MARK_POINTS, FEW_MARK_POINTS, LINE_POINTS = 3.4, 2.0, 1.0
HANDLE, PAD, BETWEEN = 2.3, 0.5, 1.6
"""Dimensions of a legend, in text heights: line length, gap between line and text, gap between columns."""

FEW_DASH = (1.2, 1.4)

_GREY = "#555555"
_ROOM = WIDTH_INCHES - 2 * EDGE


def legends(figure: Figure) -> dict[str, list[Line2D]]:
    """Return the handles for each kind of series, for arms and variants, and for few trials (separate: a long text)."""
    kinds = dict.fromkeys(panel.by for panel in figure.panels)
    by_kind: dict[str, list[Line2D]] = {kind: _of_series(figure, kind) for kind in kinds}
    return {**by_kind, ALL_ELSE: _of_curves(figure), FEW: _of_few(figure)}


def columns(handles: list[Line2D]) -> int:
    """Return the largest number of columns that fit, each as wide as its widest entry."""
    wide = [
        max(text_inches(line, TEXT_POINTS) for line in _lines(handle)) + (HANDLE + PAD + BETWEEN) * TEXT_POINTS / 72
        for handle in handles
    ]
    fits = (n for n in range(len(wide), 1, -1) if sum(max(wide[at::n]) for at in range(n)) <= _ROOM)
    return next(fits, 1)


def lines(handles: list[Line2D]) -> int:
    """Return the height of a legend in lines of text: that of its highest column (``by_rows``)."""
    wide = columns(handles)
    return max((sum(len(_lines(handle)) for handle in handles[at::wide]) for at in range(wide)), default=0)


def _lines(handle: Line2D) -> list[str]:
    return str(handle.get_label()).split("\n")


def by_rows(handles: list[Line2D], wide: int) -> list[Line2D]:
    """Reorder handles so that a legend, which fills column by column, reads row by row."""
    return [handle for at in range(wide) for handle in handles[at::wide]]


def looks_of(figure: Figure, kind: str) -> dict[str, Look]:
    """Return the looks of the series of one kind."""
    return looks(figure.series(kind), figure.names.get(kind, ()))


class Strokes(NamedTuple):
    """The dashes and fills of one kind of series, which distinguish curves in addition to colour and marker."""

    series: tuple[str, ...]
    arms: tuple[str, ...]
    """Empty where each series has one arm; dashes then also distinguish series."""
    variants: tuple[str, ...]

    def of(self, series: str, arm: str, variant: str) -> tuple[tuple[float, ...], Any]:
        """Return dash and fill."""
        place = self.arms.index(arm) if arm in self.arms else 0
        turn, number = self.variants.index(variant), place + max(len(self.arms), 1) * self.variants.index(variant)
        first = 0 if self.arms else self.series.index(series)
        return DASHES[(first + number) % len(DASHES)], FILLS[(number // len(DASHES) + turn) % len(FILLS)]


def strokes(figure: Figure, kind: str) -> Strokes:
    """Return the strokes of one kind of series."""
    arms: dict[str, None] = {}
    for panel in figure.panels:
        if panel.by == kind and panel.points.groupby("series")["arm"].nunique().max() > 1:
            arms |= dict.fromkeys(panel.points["arm"])
    return Strokes(tuple(figure.series(kind)), tuple(arms), variants(figure))


def variants(figure: Figure) -> tuple[str, ...]:
    """Return the variants of the whole figure."""
    return tuple(dict.fromkeys(variant for panel in figure.panels for variant in panel.points["variant"]))


def _of_series(figure: Figure, kind: str) -> list[Line2D]:
    """Return the handles of the series of one kind, without lines where points are not joined."""
    how, first = strokes(figure, kind), next(iter(variants(figure)), "")
    joined = any(not panel.ticks for panel in figure.panels if panel.by == kind)
    handles = []
    for name, look in looks_of(figure, kind).items():
        dash = how.of(name, "", first)[0] if joined else None
        handles.append(_handle(name, look.colour, dash, marker=look.marker))
    return handles


def _of_curves(figure: Figure) -> list[Line2D]:
    """Return handles of arms by dash and variants by fill and dash; all combinations if there are several of both."""
    several = variants(figure)
    if several in ((), ("",)):
        return [_handle(arm, _GREY, dash) for arm, dash in _arms(figure, "").items()]
    first = next(panel for panel in figure.panels if not panel.points.empty)
    how, joined = strokes(figure, first.by), not first.ticks
    handles = []
    for arm in how.arms or ("",):
        for name in several:
            dash, fill = how.of(how.series[0], arm, name)
            label = f"{arm}, {name}" if arm else name
            more = {"marker": "o", "fillstyle": fill, "markerfacecoloralt": "white"}
            handles.append(_handle(label, _GREY, dash if joined else None, **more))
    return handles


def _arms(figure: Figure, variant: str) -> dict[str, tuple[float, ...]]:
    """Return the dashes of all arms."""
    kinds = dict.fromkeys(panel.by for panel in figure.panels)
    return {arm: how.of("", arm, variant)[0] for kind in kinds for how in [strokes(figure, kind)] for arm in how.arms}


def _of_few(figure: Figure) -> list[Line2D]:
    if not any(bounds(panel.points).few.any() for panel in figure.panels):
        return []
    label = f"2 to {FEW_VALUES - 1} trials or pairs: small markers, dotted bars"
    return [_handle(label, _GREY, FEW_DASH, marker="o", markersize=FEW_MARK_POINTS)]


def _handle(label: str, colour: str, dash: tuple[float, ...] | None, **more: Any) -> Line2D:
    """Create a handle with a label of one or more lines; ``dash`` is None where there is no line."""
    style: Any = "" if dash is None else (0, dash) if dash else "-"
    given = {"markersize": MARK_POINTS, **more}
    label = "\n".join(wrapped(label, TEXT_POINTS, _ROOM - (HANDLE + PAD + BETWEEN) * TEXT_POINTS / 72))
    return Line2D([], [], color=colour, label=label, linewidth=LINE_POINTS, linestyle=style, **given)
