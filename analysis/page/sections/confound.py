"""Deltas by normalization and BatchNorm mode, as a figure and as a table with their changes."""

from collections.abc import Iterator

from analysis.figures.confound import confound
from analysis.page.results import Results
from analysis.page.section import Content


def contents(results: Results) -> Iterator[Content]:
    compared = confound(results.data, results.comparisons, results.choices)
    if compared is not None:
        yield Content(
            title="Effect of normalization and BatchNorm mode",
            template="beside.html",
            figures=(compared.figure,),
            tables=(compared.table,),
        )
