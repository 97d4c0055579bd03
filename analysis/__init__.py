"""From Parquet to numbers, curves, tables and a page. Starts from a results root and nothing else.

The functions below are what the command line and notebooks use; each loads its module at the first use,
so that importing ``analysis`` costs nothing and ``query`` never loads a plotting library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis import formats
    from analysis.delta_table import deltas
    from analysis.evaluations import load
    from analysis.imports import import_trials
    from analysis.page import report
    from analysis.sql import query
    from analysis.summaries import aggregate

_HOMES = {
    "aggregate": "analysis.summaries",
    "deltas": "analysis.delta_table",
    "import_trials": "analysis.imports",
    "load": "analysis.evaluations",
    "query": "analysis.sql",
    "report": "analysis.page",
}

__all__ = ["aggregate", "deltas", "formats", "import_trials", "load", "query", "report"]


def __getattr__(name: str) -> Any:
    if name == "formats":
        return import_module("analysis.formats")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
