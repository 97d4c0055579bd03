"""The HTML that notebooks show. Every text is escaped: names, messages and results may come from anyone."""

from collections.abc import Collection, Iterable, Mapping
from html import escape

from jobs.system.printable import printable

MOST_ROWS = 40
"""Rows of a table that are shown."""
_SMALL = "color: var(--jp-ui-font-color2, #666); font-size: smaller"


def text(value: object) -> str:
    """Return a text with control characters made visible, as HTML."""
    return escape(printable(str(value)))


def paragraph(line: object, *, bold: bool = False) -> str:
    """Return one line of text."""
    return f"<div>{f'<b>{text(line)}</b>' if bold else text(line)}</div>"


def remark(line: object) -> str:
    """Return one line of small text."""
    return f'<div style="{_SMALL}">{text(line)}</div>'


def facts(rows: Iterable[tuple[str, object]]) -> str:
    """Return a table of names and values."""
    cells = (
        f'<tr><th scope="row" style="text-align: left; white-space: nowrap">{text(name)}</th>'
        f'<td style="text-align: left">{text(value)}</td></tr>'
        for name, value in rows
    )
    return f"<table><tbody>{''.join(cells)}</tbody></table>"


def table(columns: Mapping[str, Collection[str]], right: Collection[str], units: Mapping[str, str]) -> str:
    """Return a table with the units below the headings that do not say them.

    Args:
        columns: the cells by heading.
        right: the columns that are right-aligned.
        units: by heading.
    """
    sides = {name: f"text-align: {'right' if name in right else 'left'}" for name in columns}
    below = {
        name: f'<br><span style="{_SMALL}; font-weight: normal">{text(unit)}</span>'
        for name, unit in units.items()
        if unit != name
    }
    head = "".join(
        f'<th scope="col" style="{side}; vertical-align: top">{text(name)}{below.get(name, "")}</th>'
        for name, side in sides.items()
    )
    rows = (
        "".join(f'<td style="{side}">{text(cell)}</td>' for cell, side in zip(row, sides.values(), strict=True))
        for row in zip(*columns.values(), strict=True)
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def block(*parts: str) -> str:
    """Return the parts below each other. Notebooks must not take what is between two dollar signs for mathematics."""
    return f'<div class="deltasweep tex2jax_ignore mathjax_ignore">{"".join(parts)}</div>'
