"""Pieces of the page. Every text is escaped here and nowhere else."""

import base64
import gzip
import html
import json
import re
from collections.abc import Sequence
from importlib import resources
from string import Template

_DECIMALS = re.compile(r"(\d+\.\d{2})\d+")
_SEPARATOR = re.compile(r"[^a-z0-9]+")


def escape(text: object) -> str:
    return html.escape(str(text))


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def section(title: str, *parts: str) -> str:
    """A section with its heading; ``anchor(title)`` leads to it."""
    name = anchor(title)
    heading = f'<h2 id="{name}-title">{escape(title)}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-title">{heading}{"".join(parts)}</section>'


def anchor(title: str) -> str:
    return _SEPARATOR.sub("-", title.lower()).strip("-")


def navigation(titles: Sequence[str]) -> str:
    return "".join(f'<li><a href="#{anchor(title)}">{escape(title)}</a></li>' for title in titles)


def table(
    name: str,
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: frozenset[str] = frozenset(),
    best: frozenset[tuple[int, str]] = frozenset(),
) -> str:
    """A table that scrolls by keyboard, can be copied and downloaded."""
    head = "".join(f'<th scope="col"{_kind(column in numbers)}>{escape(column)}</th>' for column in columns)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{_kind(column in numbers, (index, column) in best)}>{escape(value)}</td>"
            for column, value in zip(columns, row, strict=True)
        )
        + "</tr>"
        for index, row in enumerate(rows)
    )
    return shell(name, caption, f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>")


def shell(name: str, caption: str, inner: str = "", attributes: str = "") -> str:
    """A table's frame and tools, around rows that are there or that the script fills in."""
    words, name = escape(caption), escape(name)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{words}">'
        f'<table id="table-{name}"{attributes}><caption>{words}</caption>{inner}</table></div>'
        f'<div class="tools" data-of="table-{name}" data-name="{name}">'
        f'<button type="button" class="copy">Copy<span class="for"> {words}</span></button>'
        f'<button type="button" class="download">Download CSV<span class="for"> of {words}</span></button>'
        "<output></output></div>"
    )


def details(summary: str, inner: str, attributes: str = "") -> str:
    return f"<details{attributes}><summary>{escape(summary)}</summary>{inner}</details>"


def choice(name: str, label: str, options: Sequence[tuple[str, str]], selected: str, attributes: str = "") -> str:
    """A labelled select; options are (value, words)."""
    made = "".join(
        f'<option value="{escape(value)}"{" selected" if value == selected else ""}>{escape(words)}</option>'
        for value, words in options
    )
    return f'<label>{escape(label)}<select name="{escape(name)}"{attributes}>{made}</select></label>'


def packed(name: str, value: object) -> str:
    """JSON for the page's script, gzipped: a seventh of its size at 14,400 trials. The same bytes every time."""
    pressed = base64.b64encode(
        gzip.compress(json.dumps(value, separators=(",", ":"), allow_nan=False).encode(), mtime=0)
    ).decode()
    return f'<script type="application/gzip" id="{name}">{pressed}</script>'


def script(source: str) -> str:
    return "<script>" + source.replace("</script", "<\\/script") + "</script>"


def picture(name: str, alternative: str) -> str:
    """The place of a figure, which the script fills: an image of its own, whose ids and fonts touch nothing else."""
    words = escape(alternative)
    image = f'<img alt="{words}" data-figure="{escape(name)}">'
    return f'<div class="wide" tabindex="0" role="region" aria-label="{words}">{image}</div>'


def shortened(svg: str) -> str:
    """An SVG with hundredths of a point, which is as much as any screen shows."""
    return _DECIMALS.sub(r"\1", svg)


def page(**parts: str) -> str:
    """The whole page from the packaged template; ``css`` is added here."""
    return Template(template("page.html")).substitute(css=template("page.css"), **parts)


def template(name: str) -> str:
    return resources.files("analysis").joinpath("templates", name).read_text(encoding="utf-8")


def _kind(number: bool, best: bool = False) -> str:
    names = " ".join(name for name, true in (("number", number), ("best", best)) if true)
    return f' class="{names}"' if names else ""
