"""Weights of the trained networks in a root: keeping them, and the digests with which they are verified. No torch.

The result of a training trial contains the digest of its network, whether or not the weights are kept. A network that
was not kept and is retrained on another device kind may differ; a record next to its weights then contains its digest
and the environment that computed it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pydantic import TypeAdapter

from jobs.errors import Code, DamagedFile
from jobs.provenance import HISTORY_COLUMNS, UNKNOWN, History, history_of
from jobs.results.commit import Committed, commit
from jobs.results.layout import MOST_WEIGHTS_BYTES, trained_weights_key, trial_key
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


def commit_with_weights(
    store: Store, kind: str, rows: Sequence[Mapping[str, object]], network: Trained, weights: bytes
) -> Committed:
    """Commit the rows of one trial and keep its network, so that a trial that is done has its weights.

    Weights that belong to a result are never replaced: the name of a source may be pinned to them, and diagnostics may
    have examined them. If the trial's result has weights, neither weights nor their record are written. Weights that
    belong to no result, as those of an attempt that was killed before its commit, are replaced.

    No storage changes two objects at once. If another process commits the trial between the look at its result and the
    write of the weights, its weights are put back; until then, and if this process is killed before, readers refuse
    them (``require_trained``).

    Args:
        rows: as in ``commit``.
        weights: the network's safetensors file, of which ``network`` has the digest.
    """
    trial_id = str(rows[0]["trial_id"])
    replaced = _keep(store, kind, trial_id, network, weights)
    committed = commit(store, kind, rows)
    if committed is not Committed.NEW:
        _settle(store, kind, trial_id, network, weights, replaced)
    return committed


def _keep(store: Store, kind: str, trial_id: str, network: Trained, weights: bytes) -> bytes | None:
    """Write weights, unless those of the trial's result are present. Return the weights that they replaced, if any."""
    key, made_again = trained_weights_key(trial_id), made_again_key(trial_id)
    if _of_result(store, kind, trial_id) is None and store.create(key, weights):
        return None
    while True:
        recorded, present = _maybe(store, made_again), _maybe(store, key)
        result = _of_result(store, kind, trial_id)  # as late as possible before weights without a result are replaced
        known = [network] if result is None else _known(store, kind, trial_id)
        if present is not None and _history(known, hashlib.sha256(present).hexdigest()) is not None:
            return None
        # before the weights; not if another process has retrained the network since they were looked for
        own = _record(network) if _differs(network, result) else None
        if own is not None and not store.swap(made_again, recorded, own):
            continue
        if store.create(key, weights) if present is None else store.swap(key, present, weights):
            return present
        if own is not None and recorded is not None:
            store.swap(made_again, own, recorded)  # the record of the process that was faster


def _settle(store: Store, kind: str, trial_id: str, network: Trained, weights: bytes, replaced: bytes | None) -> None:
    """Put back the weights of the result that another process committed; without them, record whose weights are kept.

    Args:
        replaced: as returned by ``_keep``.
    """
    key, result = trained_weights_key(trial_id), _of_result(store, kind, trial_id)
    if result is None or not _differs(network, result):
        return
    if replaced is not None and hashlib.sha256(replaced).hexdigest() == result.sha256:
        store.swap(key, weights, replaced)
        return
    made_again, own = made_again_key(trial_id), _record(network)
    while _maybe(store, key) == weights and (recorded := _maybe(store, made_again)) != own:
        store.swap(made_again, recorded, own)


def _differs(network: Trained, result: Trained | None) -> bool:
    """Return whether a network is known to be another than the one in the trial's result."""
    return result is not None and result.sha256 not in (None, network.sha256)


def _record(network: Trained) -> bytes:
    """Return the record of a network that was retrained with a different outcome."""
    return json.dumps({"sha256": network.sha256, **network.history.columns}).encode()


def _maybe(store: Store, key: str) -> bytes | None:
    try:
        return store.read_within(key, MOST_WEIGHTS_BYTES)
    except FileNotFoundError:
        return None


def require_trained(store: Store, kind: str, trial_id: str, sha256: str) -> History:
    """Verify weights against the trial that trained them.

    Args:
        sha256: the digest of the weight file.

    Returns:
        The environment that computed the network; unknown if no result records it.

    Raises:
        DamagedFile: if they belong to another network, or the result or record with the digest cannot be read.
    """
    known = _known(store, kind, trial_id)
    if (history := _history(known, sha256)) is not None:
        return history
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


def _known(store: Store, kind: str, trial_id: str) -> list[Trained]:
    """Return the networks of the trial's result and of the record next to its weights, as far as they exist."""
    return [trained for trained in (_of_result(store, kind, trial_id), read_made_again(store, trial_id)) if trained]


def _history(known: Iterable[Trained], sha256: str) -> History | None:
    """Return the environment that computed weights with this digest; None if they are of none of these networks."""
    return next((network.history for network in known if network.sha256 in (None, sha256)), None)


def _of_result(store: Store, kind: str, trial_id: str) -> Trained | None:
    """Return the network recorded in a trial's result; None if there is no result."""
    key = trial_key(kind, trial_id)
    try:
        data = store.read_within(key, most_bytes(kind))
    except FileNotFoundError:
        return None
    table = decode_trial(data, kind, trial_id, f"{store.uri}/{key}").table
    return Trained(table[_COLUMN][0].as_py(), history_of(*(table[name][0].as_py() for name in HISTORY_COLUMNS)))
