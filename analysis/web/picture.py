"""A drawing of ``analysis.web.svg`` as a picture: PNG and PDF for documents, without a browser."""

import io
import re
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, PathPatch
from matplotlib.path import Path
from matplotlib.text import Text

from analysis.figures.drawing.style import PLAIN_TEXT

_PIXELS, _POINTS = 96, 72
"""Per inch."""

_DOTS = 300
"""Per inch of the picture."""

_LETTERS = 0.88
"""Size of the picture's letters, relative to those of the SVG, of whose usual fonts matplotlib's is the widest."""

_SVG = "{http://www.w3.org/2000/svg}"

_STEP = re.compile(r"([MLHVaz])([^MLHVaz]*)")


def picture(svg: str, form: str) -> bytes:
    """Draw texts and paths of an SVG on white; equal drawings give equal bytes.

    Args:
        svg: a drawing in which colours are attributes; its paths consist of lines, or are a circle.
        form: ``png`` or ``pdf``.
    """
    root = ElementTree.fromstring(svg)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    size = float(root.attrib["font-size"]) * _LETTERS * _POINTS / _PIXELS
    with mpl.rc_context({**PLAIN_TEXT, "font.size": size}):
        canvas = Figure(figsize=(width / _PIXELS, height / _PIXELS), dpi=_DOTS, facecolor="white")
        axes = canvas.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        for order, element in enumerate(root.iter()):
            if element.tag == f"{_SVG}path":
                axes.add_patch(_path(element.attrib, order))
            elif element.tag == f"{_SVG}text":
                _say(axes, element)
        buffer = io.BytesIO()
        canvas.savefig(buffer, format=form, metadata={"CreationDate": None} if form == "pdf" else None)
    return buffer.getvalue()


def _path(look: dict[str, str], order: int) -> Circle | PathPatch:
    width = float(look.get("stroke-width", "1"))
    style: dict[str, Any] = {
        "facecolor": look.get("fill", "none"),
        "edgecolor": look.get("stroke", "none"),
        "linewidth": width * _POINTS / _PIXELS,
        "capstyle": "butt",
        "zorder": order,
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


def _say(axes: Axes, element: ElementTree.Element) -> None:
    """Write a text, and its parts behind each other."""
    look = element.attrib
    side = {"start": "left", "middle": "center", "end": "right"}[look["text-anchor"]]
    at = axes.text(
        *(float(look["x"]), float(look["y"]), element.text or ""), ha=side, va="baseline", color=look["fill"]
    )
    for part in element:
        own = part.attrib
        weight = "bold" if own.get("font-weight") == "600" else "normal"
        at = _after(axes, at, part.text or "", float(own.get("dx", "0")), own.get("fill", look["fill"]), weight)


def _after(axes: Axes, before: Text, words: str, gap: float, colour: str, weight: str) -> Text:
    end = before.get_window_extent().x1 if before.get_text() else None
    x, y = before.get_position()
    start = x if end is None else float(axes.transData.inverted().transform((end, 0))[0])
    return axes.text(start + gap, y, words, va="baseline", color=colour, fontweight=weight)
