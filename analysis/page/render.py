"""Rendering the page with jinja2 templates; every value is made printable and escaped unless it is HTML already."""

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment
from markupsafe import Markup

from analysis.figures.drawing.render import Drawing
from analysis.page.forest import svg
from analysis.page.section import Content, Drawings
from analysis.web.templates import environment as templates_in
from analysis.web.theme import theme
from jobs.system.printable import printable

_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("chart.js", "curves.js", "page.js")
_DECIMALS = re.compile(r"(\d+\.\d{2})\d+")
_SEPARATOR = re.compile(r"[^a-z0-9]+")


class Head(NamedTuple):
    """What the head of the page says."""

    uri: str
    """The results root."""
    studies: Sequence[str]
    finished: int
    """Number of finished trials."""
    newest: datetime | None
    """The time of the newest results, not that of writing: the same results give the same page."""
    version: str


def render(head: Head, contents: Sequence[Content], drawings: Drawings) -> str:
    """Return the whole page, which loads nothing from the network.

    Args:
        drawings: all figures of the contents, by name.
    """
    data: dict[str, Any] = {}
    for content in contents:
        data |= content.script_data()
    if drawings:
        data["figures"] = {name: _for_script(drawing) for name, drawing in drawings.items()}
    script = "".join(_source(name) for name in _SCRIPTS)
    return filled(
        "page.html",
        head=head,
        css=Markup(theme() + _source("page.css")),
        sections=[(content.title, anchor(content.title), _inner(content)) for content in contents],
        data=packed(data) if data else "",
        script=Markup(script),
        digest=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
    )


def filled(template: str, **values: object) -> Markup:
    """Render a template of ``templates/`` with these values."""
    return Markup(environment().get_template(template).render(values))


@cache
def environment() -> Environment:
    """Return the templates, with their filters."""
    templates = templates_in(_TEMPLATES)
    templates.filters |= {"rows": rows, "png": _png, "forest": svg}
    return templates


def anchor(title: str) -> str:
    """Return the id of a section, for links."""
    return _SEPARATOR.sub("-", title.lower()).strip("-")


def rows(numbers: pd.DataFrame) -> list[list[str]]:
    """Format numbers for the page."""
    return [[_short(value) for value in row] for row in numbers.itertuples(index=False)]


def shortened(svg: str) -> str:
    """Round the coordinates of an SVG to hundredths of a point, which exceeds the resolution of screens."""
    return _DECIMALS.sub(r"\1", svg)


def packed(value: object) -> str:
    """Return gzipped JSON for the page's script, deterministically: a seventh of its size at 14,400 trials."""
    plain = json.dumps(_texts_printable(value), separators=(",", ":"), allow_nan=False).encode()
    return base64.b64encode(gzip.compress(plain, mtime=0)).decode()


def _texts_printable(value: object) -> object:
    """Return data with the texts that the templates show: the script finds numbers by the values of the choices."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {_texts_printable(key): _texts_printable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):  # most items are numbers
        return [item if isinstance(item, int | float) else _texts_printable(item) for item in value]
    return value


def _inner(content: Content) -> Markup:
    shown = {"figures": content.figures, "pictures": content.pictures, "tables": content.tables}
    return filled(content.template, **shown, **content.values)


def _for_script(drawing: Drawing) -> dict[str, Any]:
    """Return the SVG of a figure, which the script inserts: packed, it takes a seventh of the space."""
    return {"svg": shortened(drawing.svg()), "boxes": drawing.boxes}


def _png(data: bytes) -> str:
    """Return the data URI of a picture."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _source(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _short(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4f}"
    return str(value)
