"""Finished trials that no one kind of device computed from beginning to end. No torch."""

from collections.abc import Iterable

import pyarrow.compute as pc

from jobs.provenance import HISTORY_COLUMNS, THEN, UNKNOWN, History, history_of
from jobs.results.layout import trial_key
from jobs.results.parquet import decode_trial
from jobs.results.reader import read_trials
from jobs.results.schema import kinds
from jobs.results.store import Store


def history_of_trial(store: Store, kind: str, trial_id: str) -> History:
    """What a finished trial was computed by; unknown where its result is gone.

    Raises:
        DamagedFile: when what stands there is not its result.
    """
    key = trial_key(kind, trial_id)
    try:
        data = store.read(key)
    except FileNotFoundError:
        return History((UNKNOWN,), (UNKNOWN,))
    table = decode_trial(data, kind, trial_id, f"{store.uri}/{key}").table
    return history_of(*(table[name][0].as_py() for name in HISTORY_COLUMNS))


def mixed_trials(store: Store, of_kinds: Iterable[str] | None = None) -> set[str]:
    """The ids of finished trials that ran on several kinds of device, or by several versions of torch or torchvision:
    their numbers follow from more than their spec (design, promise 1).

    Args:
        of_kinds: the kinds of trials to look at; None: all.

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
