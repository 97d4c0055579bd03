"""Rendering the page with jinja2 templates; every value is escaped unless it is marked here as trusted."""

import base64
import gzip
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis.page.scripts import vega
from analysis.page.section import Content, Drawings

_TEMPLATES = Path(__file__).parent / "templates"
_DECIMALS = re.compile(r"(\d+\.\d{2})\d+")
_SEPARATOR = re.compile(r"[^a-z0-9]+")


def render(uri: str, contents: Sequence[Content], drawings: Drawings) -> str:
    """Return the whole page, which loads nothing from the network.

    Args:
        uri: the results root.
        drawings: all figures of the contents, by name.
    """
    data: dict[str, Any] = {}
    for content in contents:
        data |= content.script_data(drawings)
    return filled(
        "page.html",
        uri=uri,
        css=Markup(_source("page.css")),
        sections=[(content.title, anchor(content.title), _inner(content, drawings)) for content in contents],
        data=packed(data) if data else "",
        scripts=[_inline(script) for script in [*([vega()] if data else []), _source("page.js")]],
    )


def filled(template: str, **values: object) -> Markup:
    """Render a template of ``templates/`` with these values."""
    return Markup(environment().get_template(template).render(values))


@cache
def environment() -> Environment:
    """Return the jinja2 environment: values are escaped, and an undefined value is an error."""
    templates = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    templates.filters |= {"rows": rows, "png": _png}
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
    plain = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    return base64.b64encode(gzip.compress(plain, mtime=0)).decode()


def _inner(content: Content, drawings: Drawings) -> Markup:
    def svg(name: str) -> str:
        return _data("image/svg+xml", shortened(drawings[name].svg()).encode())

    shown = {"figures": content.figures, "pictures": content.pictures, "tables": content.tables}
    return filled(content.template, svg=svg, **shown, **content.values)


def _png(data: bytes) -> str:
    return _data("image/png", data)


def _data(media: str, data: bytes) -> str:
    """Return the data URI of an image."""
    return f"data:{media};base64,{base64.b64encode(data).decode()}"


def _inline(script: str) -> Markup:
    """Mark a trusted script, after escaping any closing script tag in it."""
    return Markup(script.replace("</script", "<\\/script"))


def _source(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _short(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4f}"
    return str(value)
