"""Figures 2 and 3 compared with the published trials, if requested."""

from collections.abc import Iterator

from analysis.figures.published import beside_published
from analysis.page.results import Results
from analysis.page.section import Content


def contents(results: Results) -> Iterator[Content]:
    if results.compare_paper and not results.data.empty:
        beside = beside_published(results.data, results.choices)
        yield Content(
            title="Comparison with the published trials",
            template="beside.html",
            values={"why_not": beside.why_not},
            figures=tuple(pair.figure for pair in beside.pairs),
            tables=tuple(pair.table for pair in beside.pairs),
        )
