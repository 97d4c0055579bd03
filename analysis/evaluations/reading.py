"""Reading a results root: its evaluations as one Arrow table, and its failures."""

from collections.abc import Set
from pathlib import Path

import pyarrow as pa

from analysis.evaluations.recipes import recipe_choices, recipe_words
from jobs.kind import GRID_KIND
from jobs.results import Failure, Store, open_existing, read_failures, read_trials

FAILURES = pa.schema(
    [(name, pa.int64() if name == "attempt" else pa.string()) for name in Failure._fields],
)
"""One row per failed attempt; ``failed_at`` is in UTC."""


def open_results(root: str | Path) -> Store:
    """Open the store of an existing results root.

    Raises:
        InvalidRequest: when the directory does not exist, or nothing is stored under the prefix: more likely a typing
            error than an empty root.
    """
    return open_existing(root)


def load(root: str | Path) -> pa.Table:
    """Return all evaluations of a results root: one row per fine-tuning trial and evaluated epoch.

    Accuracies are in percent, losses in nats, times in seconds, as recorded in each field's metadata. In a notebook,
    use ``analysis.load(root).to_pandas()``.

    Raises:
        InvalidRequest: when the root does not exist.
        DamagedFile: for the first file that is not a valid result; no file is skipped.
    """
    return read_trials(open_results(root), GRID_KIND)


def load_failures(store: Store) -> pa.Table:
    """Return the failed attempts of a root, sorted by trial id and attempt (columns of ``FAILURES``)."""
    return pa.Table.from_pylist([failure._asdict() for failure in read_failures(store)], schema=FAILURES)


def recipes_in_words(store: Store, shown: Set[str]) -> dict[str, str]:
    """Describe how recipes of a root differ, by digest; empty where fewer than two are shown.

    Args:
        shown: the digests of the recipes that are shown together.
    """
    if len(shown) < 2:
        return {}
    known = recipe_choices(read_trials(store, GRID_KIND, ["recipe", "recipe_json"], encoded=True))
    return recipe_words({digest: choices for digest, choices in known.items() if digest in shown})
