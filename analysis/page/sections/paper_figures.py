"""The figures of the paper that the results can show, and why they cannot show the others."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from analysis.figures.drawing.model import Figure
from analysis.figures.paper import figures
from analysis.page.render import rows, shortened
from analysis.page.results import Results
from analysis.page.section import Content, Drawings


def contents(results: Results) -> Iterator[Content]:
    if not results.data.empty:
        drawn, missing = figures(results.worded)
        values = {"intervals": list(dict.fromkeys(figure.intervals for figure in drawn)), "missing": missing}
        yield Content(
            title="Figures of the paper",
            template="paper_figures.html",
            values=values,
            figures=tuple(drawn),
            script_data=partial(_for_script, drawn),
        )


def _for_script(figures: Sequence[Figure], drawings: Drawings) -> Mapping[str, Any]:
    """SVG and numbers of the figures, which the page's script inserts: packed, they take a seventh of the space."""
    return {"figures": {figure.name: _packed(figure, drawings[figure.name].svg()) for figure in figures}}


def _packed(figure: Figure, svg: str) -> dict[str, Any]:
    numbers = figure.table()
    return {"svg": shortened(svg), "columns": list(numbers.columns), "rows": rows(numbers)}
