"""Reading a results root: the evaluations as one Arrow table, and the failures."""

from pathlib import Path

import pyarrow as pa

from jobs.results import Failure, Store, open_store, read_failures, read_trials, require_root

FAILURES = pa.schema(
    [(name, pa.int64() if name == "attempt" else pa.string()) for name in Failure._fields],
)
"""One row a failed attempt; ``failed_at`` is UTC."""


def open_results(root: str | Path) -> Store:
    """The store of a results root that is there.

    Raises:
        InvalidRequest: when the directory does not exist, or nothing is below the prefix: more likely a slip of the
            keyboard than an empty root.
    """
    store = open_store(root)
    require_root(store)
    return store


def load(root: str | Path) -> pa.Table:
    """All evaluations of a results root: one row per fine-tuning trial and evaluated epoch.

    Accuracies are percent, losses nats, times seconds; every field's metadata says so. In a notebook,
    ``analysis.load(root).to_pandas()``.

    Raises:
        InvalidRequest: when there is no such root.
        DamagedFile: naming the first file that is not a result; none is skipped.
    """
    return read_trials(open_results(root), "finetune")


def load_failures(store: Store) -> pa.Table:
    """The failed attempts of a root, in order of trial id and attempt (columns of ``FAILURES``)."""
    return pa.Table.from_pylist([failure._asdict() for failure in read_failures(store)], schema=FAILURES)
