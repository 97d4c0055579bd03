"""Reading a results root: the evaluations as one Arrow table, and the failures."""

from pathlib import Path

import pyarrow as pa

from jobs.errors import InvalidRequest
from jobs.results import Failure, LocalStore, Store, open_store, read_failures, read_trials

FAILURES = pa.schema(
    [(name, pa.int64() if name == "attempt" else pa.string()) for name in Failure._fields],
)
"""One row a failed attempt; ``failed_at`` is UTC."""


def open_results(root: str | Path) -> Store:
    """The store of a results root that is there.

    Raises:
        InvalidRequest: when a local root does not exist: more likely a slip of the keyboard than an empty root.
    """
    store = open_store(root)
    if isinstance(store, LocalStore) and not store.directory.is_dir():
        raise InvalidRequest(
            f"a results root to read from must exist; there is no directory {store.uri}. "
            "Check --results; `deltasweep launch` makes a new one"
        )
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
