"""The figures of the paper that the results can show, and why they cannot show the others."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from analysis.figures.drawing.model import Figure
from analysis.figures.paper import figures
from analysis.figures.roles import known_from
from analysis.page.render import rows
from analysis.page.results import Results
from analysis.page.section import Content


def contents(results: Results) -> Iterator[Content]:
    if not results.data.empty:
        known = known_from(results.studies, results.launches)
        drawn, missing = figures(results.data, results.recipes, known)
        values = {"intervals": list(dict.fromkeys(figure.intervals for figure in drawn)), "missing": missing}
        yield Content(
            title="Figures of the paper",
            template="paper_figures.html",
            values=values,
            figures=tuple(drawn),
            script_data=partial(_numbers, drawn),
        )


def _numbers(figures: Sequence[Figure]) -> Mapping[str, Any]:
    """Return the numbers of the figures, from which the script makes a table when it is opened."""
    return {"numbers": {figure.name: _table(figure.table()) for figure in figures}}


def _table(numbers: pd.DataFrame) -> dict[str, Any]:
    return {"columns": list(numbers.columns), "rows": rows(numbers)}
