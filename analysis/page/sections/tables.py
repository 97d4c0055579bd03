"""The tables of the paper, and those of kinds that examine networks."""

from collections.abc import Iterator

from analysis.page.results import Results
from analysis.page.section import Content
from analysis.page.sections.kinds import kind_tables
from analysis.tables.accuracy import table7
from analysis.tables.catalogue import table5, table6
from analysis.tables.paper_comparison import comparison_table


def contents(results: Results) -> Iterator[Content]:
    if not results.data.empty:
        data = results.worded
        own = results.own_cards
        tables = [table5(data, own.sources), table6(data, own.datasets), table7(data)]
        if results.compare_paper:
            tables.append(comparison_table(results.data, results.choices, results.recipes))
        yield Content(title="Tables", template="tables.html", tables=(*tables, *kind_tables(results)))
