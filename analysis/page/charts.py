"""The page's four charts as Vega-Lite specifications, drawn from data that the page's script fills in."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from analysis.figures.style import looks

_SHAPES = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "triangle-left",
    "*": "triangle-right",
}
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [10, 4], [1, 3], [6, 2, 1, 2])
_HEIGHT = 320


def charts(datasets: Sequence[str], sizes: Sequence[int]) -> dict[str, dict[str, Any]]:
    """The specifications by name; every one draws the named data ``points`` and fills the width it is given."""
    return {
        "delta-images": _delta(_images(sizes), datasets, bands=("_band", "")),
        "accuracy-images": _accuracy(_images(sizes), datasets),
        "delta-epoch": _delta(_epochs(), datasets, bands=("",)),
        "accuracy-epoch": _accuracy(_epochs(), datasets),
    }


def _delta(axis: alt.X, datasets: Sequence[str], bands: Sequence[str]) -> dict[str, Any]:
    base = _base(axis, datasets, "delta (percentage points)", zero=True)
    zero = alt.Chart(alt.InlineData([{"zero": 0}])).mark_rule(color="#333333").encode(y=alt.Y("zero:Q"))
    shades = [layer for band in bands for layer in _band(base, f"low{band}", f"high{band}", 0.12 if band else 0.25)]
    line = base.mark_line(strokeWidth=2).encode(strokeDash=_dash("dataset", datasets))
    return _finished(zero, *shades, line, _marks(base, datasets))


def _accuracy(axis: alt.X, datasets: Sequence[str]) -> dict[str, Any]:
    base = _base(axis, datasets, "test accuracy (%)", zero=False)
    line = base.mark_line(strokeWidth=2).encode(
        strokeDash=alt.StrokeDash(
            "role:N", legend=None, scale=alt.Scale(domain=["source", "baseline"], range=[[1, 0], [5, 4]])
        ),
    )
    return _finished(*_band(base, "low", "high", 0.2), line, _marks(base, datasets))


def _images(sizes: Sequence[int]) -> alt.X:
    """Log-2 axis with a tick at each size; whole sets lie at their own number."""
    ticks = alt.Axis(values=list(sizes), format="~s", labelOverlap="greedy", labelSeparation=6)
    scale = alt.Scale(type="log", base=2, nice=False, padding=12)
    return alt.X("x:Q", title="training images (log 2)", scale=scale, axis=ticks)


def _epochs() -> alt.X:
    return alt.X("x:Q", title="epoch", scale=alt.Scale(nice=False, padding=12))


def _base(axis: alt.X, datasets: Sequence[str], title: str, zero: bool) -> alt.Chart:
    look = looks(datasets)
    return alt.Chart(alt.NamedData("points")).encode(
        x=axis,
        y=alt.Y("mean:Q", title=title, scale=alt.Scale(zero=zero)),
        detail=["arm:N", "variant:N"],
        color=alt.Color(
            "dataset:N", scale=alt.Scale(domain=list(datasets), range=[look[name].colour for name in datasets])
        ),
    )


def _band(base: alt.Chart, low: str, high: str, opacity: float) -> list[alt.Chart]:
    """The area between two bounds, and a bar where it shows nothing: at a point whose neighbours have no bounds."""
    bounded = base.encode(y=alt.Y(f"{low}:Q"), y2=alt.Y2(f"{high}:Q"))
    bars = bounded.mark_rule(opacity=2.5 * opacity, strokeWidth=3, aria=False).transform_filter("datum.alone")
    return [bounded.mark_area(opacity=opacity), bars]


def _dash(field: str, names: Sequence[str]) -> alt.StrokeDash:
    dashes = [_DASHES[index % len(_DASHES)] for index in range(len(names))]
    return alt.StrokeDash(f"{field}:N", scale=alt.Scale(domain=list(names), range=dashes))


def _marks(base: alt.Chart, datasets: Sequence[str]) -> alt.Chart:
    look = looks(datasets)
    shapes = [_SHAPES[look[name].marker] for name in datasets]
    colours = alt.Scale(domain=list(datasets), range=[look[name].colour for name in datasets])
    made: alt.Chart = base.mark_point(size=60, opacity=1).encode(
        fill=alt.Fill("dataset:N", scale=colours),
        fillOpacity=alt.condition("datum.hollow", alt.value(0), alt.value(1)),
        shape=alt.Shape("dataset:N", scale=alt.Scale(domain=list(datasets), range=shapes)),
        tooltip=[
            alt.Tooltip("dataset:N"),
            alt.Tooltip("arm:N"),
            alt.Tooltip("variant:N", title="trials"),
            alt.Tooltip("size:N", title="images"),
            alt.Tooltip("epoch:Q"),
            alt.Tooltip("mean:Q", format="+.2f"),
            alt.Tooltip("interval:N", title="95 % interval"),
            alt.Tooltip("n:Q"),
        ],
    )
    return made


def _finished(*layers: alt.Chart) -> dict[str, Any]:
    chart = (
        alt.layer(*layers)
        .properties(width="container", height=_HEIGHT)
        .configure(font="system-ui, sans-serif")
        .configure_legend(orient="bottom", columns=3, symbolOpacity=1, symbolSize=90, labelFontSize=12, title=None)
        .configure_axis(labelFontSize=12, titleFontSize=12, gridColor="#e3e3e3")
        .configure_view(stroke=None)
    )
    return dict(chart.to_dict())
