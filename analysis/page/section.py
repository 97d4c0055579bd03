"""A section of the page before it is drawn and rendered: values for its template, and the files beside the page."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from analysis.figures.drawing.model import Figure
from analysis.figures.drawing.render import Drawing
from analysis.figures.exhibits import Exhibit
from analysis.page.results import Results
from analysis.tables.model import Table

Drawings: TypeAlias = Mapping[str, Drawing]
"""All figures of the page, by name."""


def _nothing() -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Content:
    """The computed content of a section."""

    title: str
    template: str
    """File name in ``templates/``."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Values for the template, in addition to ``figures``, ``pictures`` and ``tables``."""
    figures: tuple[Figure, ...] = ()
    """Drawn and written as PNG, SVG, PDF and CSV."""
    pictures: tuple[Exhibit, ...] = ()
    """Exhibits without a figure: written as PNG, with their numbers as CSV."""
    tables: tuple[Table, ...] = ()
    """Written as CSV, Markdown and LaTeX."""
    script_data: Callable[[], Mapping[str, Any]] = _nothing
    """Data for the page's script, by name, in addition to the figures."""
    drawings: Mapping[str, str] = field(default_factory=dict)
    """SVG by name of what the template draws itself (``analysis.web.svg``): written as SVG, PNG and PDF."""


Section: TypeAlias = Callable[[Results], Iterable[Content]]
"""A function that computes the contents of a section from the results; empty if there is nothing to show."""
