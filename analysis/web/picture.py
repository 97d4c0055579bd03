"""A drawing of ``analysis.web.svg`` as a picture: PNG and PDF for documents, without a browser."""

import io
import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Circle, PathPatch
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.transforms import Affine2D, Transform

from analysis.figures.drawing.style import PLAIN_TEXT

_PIXELS, _POINTS = 96, 72
"""Per inch."""

_DOTS = 200
"""Per inch of the picture, which is wider than a text's column: more than 300 per inch of the column."""

_LETTERS = 0.88
"""Size of the picture's letters, relative to those of the SVG, of whose usual fonts matplotlib's is the widest."""

_SVG = "{http://www.w3.org/2000/svg}"

_STEP = re.compile(r"([MLHVaz])([^MLHVaz]*)")


_OPTIONS: dict[str, dict[str, Any]] = {
    "png": {"pil_kwargs": {"compress_level": 3}},  # as for the figures: half the time for a slightly larger file
    "pdf": {"metadata": {"CreationDate": None}},
}


def pictures(svg: str, formats: Sequence[str] = ("png", "pdf")) -> dict[str, bytes]:
    """Draw texts and paths of an SVG on white; return a file for each format. Equal drawings give equal bytes.

    Args:
        svg: a drawing in which colours are attributes; its paths consist of lines, or are a circle.
        formats: some of ``png`` and ``pdf``.
    """
    root = ElementTree.fromstring(svg)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    size = float(root.attrib["font-size"]) * _LETTERS * _POINTS / _PIXELS
    with mpl.rc_context({**PLAIN_TEXT, "font.size": size}):
        canvas = Figure(figsize=(width / _PIXELS, height / _PIXELS), dpi=_DOTS, facecolor="white")
        pixels = Affine2D().scale(1 / width, -1 / height).translate(0, 1) + canvas.transSubfigure
        for order, element in enumerate(root.iter()):
            if element.tag == f"{_SVG}path":
                canvas.add_artist(_path(element.attrib, order, pixels))
            elif element.tag == f"{_SVG}text":
                _say(canvas, element, pixels)
        return {form: _written(canvas, form) for form in formats}


def _written(canvas: Figure, form: str) -> bytes:
    buffer = io.BytesIO()
    canvas.savefig(buffer, format=form, **_OPTIONS[form])
    return buffer.getvalue()


def _path(look: dict[str, str], order: int, pixels: Transform) -> Circle | PathPatch:
    width = float(look.get("stroke-width", "1"))
    style: dict[str, Any] = {
        "facecolor": look.get("fill", "none"),
        "edgecolor": look.get("stroke", "none"),
        "linewidth": width * _POINTS / _PIXELS,
        "capstyle": "butt",
        "zorder": order,
        "transform": pixels,
    }
    if "stroke-dasharray" in look:
        dashes = map(float, look["stroke-dasharray"].split())
        style["linestyle"] = (0, tuple(dash / width for dash in dashes))  # matplotlib's are in widths of the line
    corners: list[tuple[float, float]] = []
    codes: list[Any] = []
    x = y = 0.0
    for command, text in _STEP.findall(look["d"]):
        numbers = [float(number) for number in text.split()]
        match command:
            case "a":
                return Circle((x + numbers[0], y), numbers[0], **style)
            case "H":
                x = numbers[0]
            case "V":
                y = numbers[0]
            case "M" | "L":
                x, y = numbers
        corners.append((x, y))
        codes.append({"M": Path.MOVETO, "z": Path.CLOSEPOLY}.get(command, Path.LINETO))
    return PathPatch(Path(corners, codes), **style)


def _say(canvas: Figure, element: ElementTree.Element, pixels: Transform) -> None:
    """Write a text, and its parts behind each other."""
    look = element.attrib
    side = {"start": "left", "middle": "center", "end": "right"}[look["text-anchor"]]
    style: dict[str, Any] = {"va": "baseline", "transform": pixels}
    at = canvas.text(*(float(look["x"]), float(look["y"]), element.text or ""), ha=side, color=look["fill"], **style)
    for part in element:
        own = part.attrib
        weight = "bold" if own.get("font-weight") == "600" else "normal"
        x, y = _end(at, pixels)
        start = x + float(own.get("dx", "0"))
        at = canvas.text(start, y, part.text or "", color=own.get("fill", look["fill"]), fontweight=weight, **style)


def _end(text: Text, pixels: Transform) -> tuple[float, float]:
    """Return where a text ends, on its baseline."""
    x, y = text.get_position()
    if text.get_text():
        x = float(pixels.inverted().transform((text.get_window_extent().x1, 0))[0])
    return x, y
