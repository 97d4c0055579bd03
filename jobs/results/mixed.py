"""Finished trials that no one kind of device computed from beginning to end. No torch."""

import pyarrow.compute as pc

from jobs.provenance import THEN, Environment, is_mixed
from jobs.results.reader import read_trials
from jobs.results.schema import kinds
from jobs.results.store import Store


def mixed_trials(store: Store) -> set[str]:
    """The ids of finished trials that ran on several kinds of device, or by several versions of torch or torchvision:
    their numbers follow from more than their spec (design, promise 1).

    Raises:
        DamagedFile: naming the first file that is not a result of its kind.
    """
    found: set[str] = set()
    for kind in kinds():
        table = read_trials(store, kind, ["trial_id", *Environment._fields])
        of_several = [pc.match_substring(table[name], THEN) for name in Environment._fields]
        for row in table.filter(pc.or_kleene(*of_several)).to_pylist():
            if is_mixed(*(row[name] for name in Environment._fields)):
                found.add(row["trial_id"])
    return found
