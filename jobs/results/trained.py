"""Networks that trials left in a root: which ones their files must hold. No torch.

The result of a trial that trains says the digest of its network, kept or not. Where a network was not kept and is made
again on another kind of device it may be another one; a record beside it then says which, and what made it.
"""

import json
from typing import NamedTuple

from pydantic import TypeAdapter

from jobs.errors import Code, DamagedFile
from jobs.provenance import HISTORY_COLUMNS, UNKNOWN, History, history_of
from jobs.results.layout import trained_weights_key, trial_key
from jobs.results.parquet import decode_trial
from jobs.results.records import read_record
from jobs.results.schema import most_bytes
from jobs.results.store import Store

_COLUMN = "trained_sha256"


class Trained(NamedTuple):
    """A network and what computed it."""

    sha256: str | None
    """Of its safetensors file; None: the trial's version of DeltaSweep did not say."""
    history: History


class _MadeAgain(NamedTuple):
    """The record beside weights that are not those of the trial's result."""

    sha256: str
    device_kind: str
    packages: str


_RECORD = TypeAdapter(_MadeAgain)


def made_again_key(trial_id: str) -> str:
    """The record of a network that was made again, and became another."""
    return f"weights/{trial_id}.json"


def record_trained(store: Store, kind: str, trial_id: str, network: Trained) -> None:
    """Before weights are put into a root whose result is of another network: say that it is."""
    standing = _of_result(store, kind, trial_id)
    if standing is None or standing.sha256 in (None, network.sha256):
        return
    record = {"sha256": network.sha256, **network.history.columns}
    store.replace(made_again_key(trial_id), json.dumps(record).encode())


def require_trained(store: Store, kind: str, trial_id: str, sha256: str) -> History:
    """Compare weights that were read with the trial that made them.

    Args:
        sha256: of the file that was read.

    Returns:
        What computed that network; unknown where no result says.

    Raises:
        DamagedFile: when they are of another network, or what must say which cannot be read.
    """
    known = [found for found in (_of_result(store, kind, trial_id), read_made_again(store, trial_id)) if found]
    for network in known:
        if network.sha256 in (None, sha256):
            return network.history
    if not known:
        return History((UNKNOWN,), (UNKNOWN,))
    file = f"{store.uri}/{trained_weights_key(trial_id)}"
    raise DamagedFile(
        Code.DAMAGED_WEIGHTS,
        f"{file} has the sha256 {sha256}; the trial that made it left "
        f"{' or '.join(str(network.sha256) for network in known)}. Fix: remove it, then launch its study again: it is "
        "made again",
        file=file,
    )


def read_made_again(store: Store, trial_id: str) -> Trained | None:
    """The network that was made again; None: none was. Raises DamagedFile when its record cannot be read."""
    remedy = "remove it and the weights beside it, then launch the study again: they are made again"
    try:
        found = read_record(store, made_again_key(trial_id), _RECORD, "the record of a trained network", remedy)
    except FileNotFoundError:
        return None
    return Trained(found.sha256, history_of(found.device_kind, found.packages))


def _of_result(store: Store, kind: str, trial_id: str) -> Trained | None:
    """The network of a finished trial; None where its result is gone."""
    key = trial_key(kind, trial_id)
    try:
        data = store.read_within(key, most_bytes(kind))
    except FileNotFoundError:
        return None
    table = decode_trial(data, kind, trial_id, f"{store.uri}/{key}").table
    return Trained(table[_COLUMN][0].as_py(), history_of(*(table[name][0].as_py() for name in HISTORY_COLUMNS)))
