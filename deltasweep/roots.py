"""The results root of a call: as given, or the one of the environment."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from jobs.errors import Code, InvalidRequest
from jobs.paths import RESULTS_VARIABLE

if TYPE_CHECKING:
    from jobs.results import Store

Root: TypeAlias = str | Path | None
"""A directory, or an ``s3://`` or ``gs://`` prefix. None: that of ``$DELTASWEEP_RESULTS``."""


def root_of(results: Root) -> str:
    """Return the address of the results root.

    Raises:
        InvalidRequest: if there is none.
    """
    root = known_root(results)
    if root is None:
        raise InvalidRequest(
            Code.MISSING_KEY,
            f"expected results, a results root, or the root in ${RESULTS_VARIABLE}; got neither. Fix: name the root",
            key="results",
        )
    return root


def known_root(results: Root) -> str | None:
    """Return the address of the results root; None if there is none."""
    return str(results) if results is not None else os.environ.get(RESULTS_VARIABLE) or None


def open_root(root: str) -> "Store":
    """Open a results root, which may be empty or new, and check that this version supports its layout."""
    from jobs.results import open_store, require_layout

    store = open_store(root)
    require_layout(store)
    return store
