"""Failed attempts."""

from collections.abc import Iterator

from analysis.evaluations.reading import load_failures
from analysis.page.results import Results
from analysis.page.section import Content
from analysis.words import counted

_COLUMNS = ("trial_id", "attempt", "kind", "error", "reason", "host", "failed_at")


def contents(results: Results) -> Iterator[Content]:
    """Failed attempts, newest last, or a note that there are none."""
    failures = load_failures(results.store)
    trials = len(set(failures["trial_id"].to_pylist()))
    rows = [tuple(str(row[name] or "") for name in _COLUMNS) for row in failures.to_pylist()]
    many = f"{counted(len(rows), 'failed attempt')} in {counted(trials, 'trial')}"
    yield Content(title="Failures", template="failures.html", values={"columns": _COLUMNS, "rows": rows, "many": many})
