"""Finished trials that were computed in more than one environment. No torch."""

from collections.abc import Iterable

import pyarrow.compute as pc

from jobs.kind import kinds
from jobs.provenance import HISTORY_COLUMNS, THEN, history_of
from jobs.results.reader import read_trials
from jobs.results.store import Store


def mixed_trials(store: Store, of_kinds: Iterable[str] | None = None) -> set[str]:
    """Return the ids of finished trials that ran on several device kinds, or with several versions of torch or
    torchvision, so that their numbers do not depend on their spec alone (docs/decisions/device-kinds.md).

    Args:
        of_kinds: the kinds of trials to check; None: all.

    Raises:
        DamagedFile: naming the first file that is not a result of its kind.
    """
    found: set[str] = set()
    for kind in kinds() if of_kinds is None else of_kinds:
        table = read_trials(store, kind, ["trial_id", *HISTORY_COLUMNS])
        of_several = [pc.match_substring(table[name], THEN) for name in HISTORY_COLUMNS]
        for row in table.filter(pc.or_kleene(*of_several)).to_pylist():
            if history_of(*(row[name] for name in HISTORY_COLUMNS)).mixed:
                found.add(row["trial_id"])
    return found
