"""Checkpoints of a trial in progress: a saving of time, never a truth (design, promise 3).

One safetensors file a checkpoint, under the trial id: tensors, and in its metadata the rest as JSON. The
file's name carries a digest of its bytes, so that a damaged one is recognised; the last two are kept.
"""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from jobs.errors import DamagedFile
from jobs.evaluation import Tally
from jobs.provenance import UNKNOWN, History
from jobs.results import Store
from jobs.results.layout import MOST_CHECKPOINT_BYTES, checkpoint_key, checkpoint_position, checkpoints_prefix
from jobs.trial import Trial

AnyTrial = Trial[Any, Any]
KEPT = 2
_DIGEST_DIGITS = 16
_UNUSABLE = (SafetensorError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What comes of bytes that no trial has written."""


def save_checkpoint(store: Store, trial: AnyTrial) -> None:
    """Put the trial's state under its id, whole, then drop all but the last two, and those that were passed over."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in trial.tensors().items()}
    data = save(tensors, metadata={"state": json.dumps(_state(trial))})
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
    """Bring a trial at its start to its newest good checkpoint; without one it stays at its start.

    Args:
        same_bits: pass over those that were not made on this kind of device, by this torch and torchvision alone.

    Returns:
        One note a checkpoint, or what stands in place of one, that had to be passed over: naming it and saying why.
    """
    strangers = store.survey(checkpoints_prefix(trial.spec.trial_id)).strangers.values()
    notes = [f"what stands among the checkpoints is left alone: {stranger}" for stranger in strangers]
    for key in _newest_first(store, trial.spec.trial_id):
        try:
            _restore(trial, _verified(key, store.read_within(key, MOST_CHECKPOINT_BYTES)), same_bits)
        except (*_UNUSABLE, DamagedFile, FileNotFoundError) as error:
            notes.append(f"checkpoint {store.uri}/{key} cannot be used ({error}): the one before it is, or the start")
            trial.passed_over.add(key)
            continue
        break
    return notes


def _newest_first(store: Store, trial_id: str) -> list[str]:
    """The checkpoints of a trial. What is no file, or has another name, is somebody else's: not read, and not removed.

    ``verify`` names it.
    """
    keys = store.survey(checkpoints_prefix(trial_id)).keys
    positions = {key: position for key in keys if (position := checkpoint_position(key)) is not None}
    return sorted(positions, key=positions.__getitem__, reverse=True)


def remove_checkpoints(store: Store, trial_id: str) -> None:
    """Drop all checkpoints of a trial: its result is committed."""
    for key in _newest_first(store, trial_id):
        store.delete(key)


def _state(trial: AnyTrial) -> dict[str, object]:
    return {
        **_read_by(trial),
        "epoch": trial.epoch,
        "batch": trial.batch,
        "tally": asdict(trial.tally),
        "evaluations": [evaluation._asdict() for evaluation in trial.evaluations],
        "seconds": trial.seconds,
        "history": trial.own_history,
    }


def _read_by(trial: AnyTrial) -> dict[str, object]:
    """Which trial it is and what it reads, with the digest of each: a checkpoint of anything else is not its own."""
    pins = {f"{pin.what}/{pin.name}": pin.sha256 for pin in trial.pins}
    return {"trial_id": trial.spec.trial_id, "pins": pins, "facts": dict(trial.facts)}


def _verified(key: str, data: bytes) -> bytes:
    digest = key.rsplit("-", 1)[1].removesuffix(".safetensors")
    found = hashlib.sha256(data).hexdigest()[:_DIGEST_DIGITS]
    if found != digest:
        raise ValueError(f"its {len(data)} bytes have the digest {found}, its name says {digest}")
    return data


def _restore(trial: AnyTrial, data: bytes, same_bits: bool) -> None:
    state = _metadata(data)
    for what, expected in _read_by(trial).items():
        if state[what] != expected:
            raise ValueError(f"its {what} is {state[what]}, the trial's is {expected}")
    # that of 0.1.0 says nothing
    kinds, by = state.get("history", [[UNKNOWN], [UNKNOWN]])
    history = History(tuple(map(str, kinds)), tuple(map(str, by)))
    if same_bits and history.then(trial.own_history).same_bits is None:
        words = history.columns
        raise ValueError(
            f"it was made on {words['device_kind']} by {words['packages']}, and on_other_device is restart"
        )
    trial.restore(
        load(data),
        epoch=state["epoch"],
        batch=state["batch"],
        tally=Tally(**state["tally"]),
        evaluations=[trial.evaluation(**evaluation) for evaluation in state["evaluations"]],
        seconds=state["seconds"],
        history=history,
    )


def _metadata(data: bytes) -> dict[str, Any]:
    """The JSON beside the tensors; a safetensors file begins with its header's length and the header."""
    length = int.from_bytes(data[:8], "little")
    state: dict[str, Any] = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["state"])
    return state
