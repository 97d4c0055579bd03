"""Digests of the trained networks in a root, with which weight files are verified. No torch.

The result of a training trial contains the digest of its network, whether or not the weights are kept. A network that
was not kept and is retrained on another device kind may differ; a record next to its weights then contains its digest
and the environment that computed it.
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
    """The digest of a network and the environment that computed it."""

    sha256: str | None
    """The digest of its safetensors file; None: the trial's version of DeltaSweep did not record it."""
    history: History


class _MadeAgain(NamedTuple):
    """The record next to weights that differ from those in the trial's result."""

    sha256: str
    device_kind: str
    packages: str


_RECORD = TypeAdapter(_MadeAgain)


def made_again_key(trial_id: str) -> str:
    """Return the key of the record of a network that was retrained with a different outcome."""
    return f"weights/{trial_id}.json"


def record_trained(store: Store, kind: str, trial_id: str, network: Trained) -> None:
    """Record a retrained network, before its weights are written, if it differs from the one in the trial's result."""
    standing = _of_result(store, kind, trial_id)
    if standing is None or standing.sha256 in (None, network.sha256):
        return
    record = {"sha256": network.sha256, **network.history.columns}
    store.replace(made_again_key(trial_id), json.dumps(record).encode())


def require_trained(store: Store, kind: str, trial_id: str, sha256: str) -> History:
    """Verify weights against the trial that trained them.

    Args:
        sha256: the digest of the weight file.

    Returns:
        The environment that computed the network; unknown if no result records it.

    Raises:
        DamagedFile: if they belong to another network, or the result or record with the digest cannot be read.
    """
    known = [trained for trained in (_of_result(store, kind, trial_id), read_made_again(store, trial_id)) if trained]
    for network in known:
        if network.sha256 in (None, sha256):
            return network.history
    if not known:
        return History((UNKNOWN,), (UNKNOWN,))
    file = f"{store.uri}/{trained_weights_key(trial_id)}"
    raise DamagedFile(
        Code.DAMAGED_WEIGHTS,
        f"{file} has the sha256 {sha256}; its trial recorded "
        f"{' or '.join(str(network.sha256) for network in known)}. Fix: remove it, then launch its study again, which "
        "retrains it",
        file=file,
    )


def read_made_again(store: Store, trial_id: str) -> Trained | None:
    """Return the digest of the retrained network; None if it was not retrained.

    Raises:
        DamagedFile: if its record cannot be read.
    """
    remedy = "Fix: remove it and the weights next to it, then launch the study again, which retrains them"
    try:
        found = read_record(store, made_again_key(trial_id), _RECORD, "the record of a trained network", remedy)
    except FileNotFoundError:
        return None
    return Trained(found.sha256, history_of(found.device_kind, found.packages))


def _of_result(store: Store, kind: str, trial_id: str) -> Trained | None:
    """Return the network recorded in a trial's result; None if there is no result."""
    key = trial_key(kind, trial_id)
    try:
        data = store.read_within(key, most_bytes(kind))
    except FileNotFoundError:
        return None
    table = decode_trial(data, kind, trial_id, f"{store.uri}/{key}").table
    return Trained(table[_COLUMN][0].as_py(), history_of(*(table[name][0].as_py() for name in HISTORY_COLUMNS)))
