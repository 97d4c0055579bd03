"""The page's four charts as Vega-Lite specifications, whose data the page's script provides."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from analysis.figures.drawing.style import looks, ordered

VEGA_LITE = "6.4"
"""The Vega-Lite version of the specifications."""

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

Spec: TypeAlias = dict[str, Any]
_Layers: TypeAlias = list[Spec]


def charts(datasets: Sequence[str], sizes: Sequence[int]) -> dict[str, Spec]:
    """Return the specifications by name; each draws the named data ``points`` at the full width of its container."""
    return {
        "delta-images": _delta(_images(sizes), datasets, bands=("_band", "")),
        "accuracy-images": _accuracy(_images(sizes), datasets),
        "delta-epoch": _delta(_epochs(), datasets, bands=("",)),
        "accuracy-epoch": _accuracy(_epochs(), datasets),
    }


def _delta(x: Spec, datasets: Sequence[str], bands: Sequence[str]) -> Spec:
    base = _base(x, datasets, "delta (percentage points)", zero=True)
    zero: Spec = {
        "data": {"values": [{"zero": 0}]},
        "mark": {"type": "rule", "color": "#333333"},
        "encoding": {"y": {"field": "zero", "type": "quantitative"}},
    }
    shades = [layer for band in bands for layer in _band(base, f"low{band}", f"high{band}", 0.12 if band else 0.25)]
    dashes = [_DASHES[index % len(_DASHES)] for index in range(len(datasets))]
    return _finished([zero, *shades, _line(base, _scaled("dataset", datasets, dashes)), _marks(base, datasets)])


def _accuracy(x: Spec, datasets: Sequence[str]) -> Spec:
    base = _base(x, datasets, "test accuracy (%)", zero=False)
    dash = {**_scaled("role", ["source", "baseline"], [[1, 0], [5, 4]]), "legend": None}
    return _finished([*_band(base, "low", "high", 0.2), _line(base, dash), _marks(base, datasets)])


def _images(sizes: Sequence[int]) -> Spec:
    """Log-2 axis with a tick at each size; whole sets are placed at their number of images."""
    ticks = {"values": list(sizes), "format": "~s", "labelOverlap": "greedy", "labelSeparation": 6}
    scale = {"type": "log", "base": 2, "nice": False, "padding": 12}
    return {**_quantity("x", title="training images (log 2)"), "scale": scale, "axis": ticks}


def _epochs() -> Spec:
    return {**_quantity("x", title="epoch"), "scale": {"nice": False, "padding": 12}, "axis": {"tickMinStep": 1}}


def _base(x: Spec, datasets: Sequence[str], title: str, zero: bool) -> Spec:
    """The encodings shared by all layers with points."""
    return {
        "x": x,
        "y": {**_quantity("mean", title=title), "scale": {"zero": zero}},
        "detail": [_name("arm"), _name("variant")],
        "color": _coloured(datasets),
    }


def _band(base: Spec, low: str, high: str, opacity: float) -> _Layers:
    """The band between two bounds, and a bar where the band would be invisible: where neighbours have no bounds."""
    bounded = {**base, "y": _quantity(low), "y2": {"field": high}}
    bar = {"type": "rule", "opacity": 2.5 * opacity, "strokeWidth": 3, "aria": False}
    return [
        {"mark": {"type": "area", "opacity": opacity}, "encoding": bounded},
        {"mark": bar, "encoding": bounded, "transform": [{"filter": "datum.alone"}]},
    ]


def _line(base: Spec, dash: Spec) -> Spec:
    return {"mark": {"type": "line", "strokeWidth": 2}, "encoding": {**base, "strokeDash": dash}}


def _marks(base: Spec, datasets: Sequence[str]) -> Spec:
    look = _looks(datasets)
    encoding = {
        **base,
        "fill": _coloured(datasets),
        "fillOpacity": {"condition": {"test": "datum.hollow", "value": 0}, "value": 1},
        "shape": _scaled("dataset", datasets, [_SHAPES[look[name].marker] for name in datasets]),
        "tooltip": [
            _name("dataset"),
            _name("arm"),
            _name("variant", title="trials"),
            _name("size", title="images"),
            _quantity("epoch"),
            _quantity("mean", format="+.2f"),
            _name("interval", title="95 % interval"),
            _quantity("n"),
        ],
    }
    return {"mark": {"type": "point", "size": 60, "opacity": 1}, "encoding": encoding}


def _coloured(datasets: Sequence[str]) -> Spec:
    look = _looks(datasets)
    return _scaled("dataset", datasets, [look[name].colour for name in datasets])


def _looks(datasets: Sequence[str]) -> dict[str, Any]:
    """The looks of the datasets, as in the static figures."""
    return looks(datasets, ordered(datasets))


def _scaled(field: str, names: Sequence[str], values: Sequence[Any]) -> Spec:
    return {**_name(field), "scale": {"domain": list(names), "range": list(values)}}


def _name(field: str, **more: str) -> Spec:
    return {"field": field, "type": "nominal", **more}


def _quantity(field: str, **more: str) -> Spec:
    return {"field": field, "type": "quantitative", **more}


def _finished(layers: _Layers) -> Spec:
    return {
        "$schema": f"https://vega.github.io/schema/vega-lite/v{VEGA_LITE}.json",
        "data": {"name": "points"},
        "width": "container",
        "height": _HEIGHT,
        "layer": layers,
        "config": {
            "font": "system-ui, sans-serif",
            "legend": {
                "orient": "bottom",
                "columns": 3,
                "symbolOpacity": 1,
                "symbolSize": 90,
                "labelFontSize": 12,
                "title": None,
            },
            "axis": {"labelFontSize": 12, "titleFontSize": 12, "gridColor": "#e3e3e3"},
            "view": {"stroke": None},
        },
    }
