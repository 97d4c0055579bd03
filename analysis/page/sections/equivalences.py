"""The answers to the equivalences that studies declared, as one table each."""

from collections.abc import Iterator

from analysis.page.results import Results
from analysis.page.section import Content
from analysis.paired.equivalence import equivalence_table, with_unfinished
from analysis.tables.equivalences import equivalence_tables


def contents(results: Results) -> Iterator[Content]:
    table = equivalence_table(results.data, results.equivalences)
    table = with_unfinished(table, results.equivalences, results.finished, results.store)
    if (tables := equivalence_tables(table)) and not results.data.empty:
        yield Content(title="Declared equivalences", template="tables.html", tables=tables)
