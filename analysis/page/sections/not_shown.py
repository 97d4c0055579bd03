"""Results that cannot be shown because no installed package provides their kind."""

from collections.abc import Iterator

from analysis.page.results import Results
from analysis.page.section import Content
from jobs.kind import INSTALL_IT, NOT_INSTALLED
from jobs.results import unknown_kinds


def contents(results: Results) -> Iterator[Content]:
    """The names of these kinds, if there are any."""
    if kinds := unknown_kinds(results.store):
        values = {"kinds": sorted(kinds.items()), "why": NOT_INSTALLED, "remedy": INSTALL_IT}
        yield Content(title="Not shown", template="not_shown.html", values=values)
