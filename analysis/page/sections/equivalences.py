"""The answers to the equivalences that studies declared, as one table each."""

from collections.abc import Iterator

from analysis.page.results import Results
from analysis.page.section import Content
from analysis.paired.equivalence import equivalence_table
from analysis.tables.equivalences import equivalence_tables


def contents(results: Results) -> Iterator[Content]:
    tables = equivalence_tables(equivalence_table(results.data, results.equivalences))
    if tables and not results.data.empty:
        yield Content(title="Declared equivalences", template="tables.html", tables=tables)
