"""A notice in place of the results, for a root without fine-tuning trials."""

from collections.abc import Iterator

from analysis.evaluations.reading import load_failures
from analysis.page.results import Results
from analysis.page.section import Content
from analysis.words import counted


def contents(results: Results) -> Iterator[Content]:
    if results.data.empty:
        failures, others = load_failures(results.store).num_rows, len(results.finished)
        values = {
            "what": "No fine-tuning trial" if others else "No trial",
            "others": counted(others, "trial") if others else "",
            "failures": counted(failures, "failed attempt") if failures else "",
            "uri": results.store.uri,
        }
        yield Content(title="Results", template="nothing_yet.html", values=values)
