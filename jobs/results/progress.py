"""How far a trial in progress is, from its checkpoint. Neither torch nor the checkpoint's tensors are read."""

import json
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from jobs.errors import Code, DamagedFile
from jobs.results.layout import checkpoint_position
from jobs.results.records import reason
from jobs.results.store import Store

_START = 1 << 16
"""Bytes that are read first. The header of a ResNet-50 with 40 evaluations takes 45 kB."""
_MOST_HEADER = 16 << 20
_UNUSABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


class Progress(NamedTuple):
    """What a checkpoint says about its trial.

    Its digest covers the tensors, which are not read, so these numbers are not verified: for display only.
    """

    trial_id: str
    epoch: int
    """The epoch in which it was saved, from 1."""
    batch: int
    seconds: float
    """Time spent so far, over all attempts."""
    evaluations: tuple[dict[str, Any], ...]
    """The rows of its result that are complete: the kind's numbers by column."""
    device_kinds: tuple[str, ...]
    """Kinds of device that computed it so far; empty in checkpoints of version 0.1.0."""
    host: str | None
    """The machine that saved it; None in checkpoints of versions before 0.3.0."""


class _State(NamedTuple):
    trial_id: str
    epoch: int
    batch: int
    seconds: float
    evaluations: tuple[dict[str, Any], ...]
    history: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    host: str | None = None


_STATE = TypeAdapter(_State)


def state_of(data: bytes) -> dict[str, Any]:
    """Return the JSON state in the header of a checkpoint, which is a safetensors file: the header's length, the
    header, the tensors.

    Args:
        data: the file, or its start up to the end of the header.

    Raises:
        ValueError, LookupError, TypeError, AttributeError, RecursionError: if it is not a checkpoint.
    """
    state: dict[str, Any] = json.loads(json.loads(data[8 : 8 + _header_bytes(data)])["__metadata__"]["state"])
    return state


def read_progress(store: Store, key: str) -> Progress:
    """Read the progress in a checkpoint.

    Args:
        key: of the checkpoint, as in ``jobs.results.layout.checkpoint_key``.

    Raises:
        FileNotFoundError: if it was deleted.
        DamagedFile: naming it, if it is not the checkpoint of the trial and position in its name.
    """
    data = store.read_start(key, _START)
    try:
        if len(data) < 8 or (length := _header_bytes(data)) > _MOST_HEADER:
            raise ValueError("it does not begin with the header of a safetensors file")
        if len(data) < 8 + length:
            data = store.read_start(key, 8 + length)
        found = _STATE.validate_python(
            {name: value for name, value in state_of(data).items() if name in _State._fields}
        )
        _, trial_id, _ = key.split("/")
        if (found.trial_id, found.epoch, found.batch) != (trial_id, *(checkpoint_position(key) or ())):
            raise ValueError(f"it is of {found.trial_id!r:.100}, epoch {found.epoch}, batch {found.batch}")
    except (*_UNUSABLE, ValidationError) as error:
        raise DamagedFile(
            Code.DAMAGED_RECORD,
            f"{store.uri}/{key} is not a readable checkpoint ({reason(error)[:300]}). Fix: none needed; its trial "
            "resumes from the previous one, or from the start",
            file=f"{store.uri}/{key}",
        ) from error
    return Progress(*found[:5], device_kinds=found.history[0], host=found.host)


def _header_bytes(data: bytes) -> int:
    return int.from_bytes(data[:8], "little")
