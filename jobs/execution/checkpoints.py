"""Checkpoints of a trial in progress. Losing one costs time, never a result (docs/explanation/architecture.md).

A checkpoint is one safetensors file under the trial id: tensors, and all other state as JSON in its metadata. Its file
name contains a digest of its bytes, so that damage is detected. The last two are kept.
"""

import hashlib
import json
import socket
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load

from jobs.errors import DamagedFile
from jobs.execution.metrics import RunningMetrics
from jobs.execution.trial import Trial
from jobs.models.storable import saved
from jobs.provenance import UNKNOWN, History
from jobs.results import Store
from jobs.results.layout import MOST_CHECKPOINT_BYTES, checkpoint_key, checkpoint_position, checkpoints_prefix
from jobs.results.progress import state_of

AnyTrial = Trial[Any, Any]
KEPT = 2
_DIGEST_DIGITS = 16
_UNUSABLE = (SafetensorError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""Errors caused by bytes that are not a trial's checkpoint."""


def save_checkpoint(store: Store, trial: AnyTrial) -> None:
    """Save the trial's state atomically; then delete all others except the latest that was not skipped."""
    data = saved(trial.tensors(), {"state": json.dumps(_state(trial))})
    digest = hashlib.sha256(data).hexdigest()[:_DIGEST_DIGITS]
    own = checkpoint_key(trial.spec.trial_id, trial.epoch, trial.batch, digest)
    store.replace(own, data, durable=False)
    others = [key for key in _newest_first(store, trial.spec.trial_id) if key != own]
    kept = [key for key in others if key not in trial.passed_over][: KEPT - 1]
    for key in others:
        if key not in kept:
            store.delete(key)
    trial.passed_over.clear()


def restore_checkpoint(store: Store, trial: AnyTrial, *, same_bits: bool = False) -> list[str]:
    """Restore a trial from its newest usable checkpoint; without one, it stays at its start.

    Args:
        same_bits: skip checkpoints that were not written entirely on this device kind, by this torch and torchvision.

    Returns:
        One note, with name and reason, per skipped checkpoint and per foreign entry among the checkpoints.
    """
    strangers = store.survey(checkpoints_prefix(trial.spec.trial_id)).strangers.values()
    notes = [f"foreign entry among the checkpoints was ignored: {stranger}" for stranger in strangers]
    for key in _newest_first(store, trial.spec.trial_id):
        try:
            _restore(trial, _verified(key, store.read_within(key, MOST_CHECKPOINT_BYTES)), same_bits)
        except (*_UNUSABLE, DamagedFile, FileNotFoundError) as error:
            notes.append(
                f"checkpoint {store.uri}/{key} cannot be used ({error}); resuming from the previous one or the start"
            )
            trial.passed_over.add(key)
            continue
        break
    return notes


def _newest_first(store: Store, trial_id: str) -> list[str]:
    """Return a trial's checkpoints, newest first.

    Entries that are not files or have other names are ignored: neither read nor deleted. ``verify`` reports them.
    """
    keys = store.survey(checkpoints_prefix(trial_id)).keys
    positions = {key: position for key in keys if (position := checkpoint_position(key)) is not None}
    return sorted(positions, key=positions.__getitem__, reverse=True)


def remove_checkpoints(store: Store, trial_id: str) -> None:
    """Delete all checkpoints of a trial whose result is committed."""
    for key in _newest_first(store, trial_id):
        store.delete(key)


def _state(trial: AnyTrial) -> dict[str, object]:
    return {
        **_read_by(trial),
        "epoch": trial.epoch,
        "batch": trial.batch,
        "tally": trial.tally.sums._asdict(),
        "evaluations": [evaluation._asdict() for evaluation in trial.evaluations],
        "seconds": trial.seconds,
        "history": trial.own_history,
        "host": socket.gethostname(),
    }


def _read_by(trial: AnyTrial) -> dict[str, object]:
    """Return the trial id and the digests of everything that it reads; checkpoints must match them."""
    pins = {f"{pin.what}/{pin.name}": pin.sha256 for pin in trial.pins}
    return {"trial_id": trial.spec.trial_id, "pins": pins, "facts": dict(trial.facts)}


def _verified(key: str, data: bytes) -> bytes:
    digest = key.rsplit("-", 1)[1].removesuffix(".safetensors")
    found = hashlib.sha256(data).hexdigest()[:_DIGEST_DIGITS]
    if found != digest:
        raise ValueError(f"its {len(data)} bytes have the digest {found}; its name has {digest}")
    return data


def _restore(trial: AnyTrial, data: bytes, same_bits: bool) -> None:
    state = state_of(data)
    for what, expected in _read_by(trial).items():
        if _known_to_both(state[what], expected, what) != expected:
            raise ValueError(f"its {what} is {state[what]}; the trial's is {expected}")
    # checkpoints of 0.1.0 have no history
    kinds, by = state.get("history", [[UNKNOWN], [UNKNOWN]])
    history = History(tuple(map(str, kinds)), tuple(map(str, by)))
    if same_bits and history.then(trial.own_history).same_bits is None:
        words = history.columns
        raise ValueError(
            f"it was written on {words['device_kind']} by {words['packages']}, and on_other_device is restart"
        )
    trial.restore(
        load(data),
        epoch=state["epoch"],
        batch=state["batch"],
        tally=RunningMetrics(**state["tally"]),
        evaluations=[trial.evaluation(**evaluation) for evaluation in state["evaluations"]],
        seconds=state["seconds"],
        history=history,
    )


def _known_to_both(stated: Any, expected: Any, what: str) -> Any:
    """Fill facts that a checkpoint lacks with the trial's own: a release that adds columns also adds facts."""
    return {**expected, **stated} if what == "facts" and isinstance(stated, dict) else stated
