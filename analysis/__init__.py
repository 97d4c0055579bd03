"""Compute numbers, curves, tables and a report from the Parquet files of a results root.

The command line and notebooks use the functions below. Each loads its module on first use, so that importing
``analysis`` is cheap and ``query`` never loads a plotting library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.evaluations.reading import load
    from analysis.imports.trials import import_trials
    from analysis.output import formats
    from analysis.page import report
    from analysis.paired.equivalence import equivalences
    from analysis.paired.summaries import aggregate
    from analysis.paired.table import deltas
    from analysis.sql.query import query

_HOMES = {
    "aggregate": "analysis.paired.summaries",
    "deltas": "analysis.paired.table",
    "equivalences": "analysis.paired.equivalence",
    "import_trials": "analysis.imports.trials",
    "load": "analysis.evaluations.reading",
    "query": "analysis.sql.query",
    "report": "analysis.page",
}

__all__ = ["aggregate", "deltas", "equivalences", "formats", "import_trials", "load", "query", "report"]


def __getattr__(name: str) -> Any:
    if name == "formats":
        return import_module("analysis.output.formats")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
