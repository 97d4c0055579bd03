"""The layout of a results root (docs/decisions/results-root.md): one function per type of key.

Compacted files and checkpoints are removed only if their keys match the patterns ``compacted_at`` and
``is_checkpoint``.
"""

import re
from datetime import UTC, datetime


def trial_key(kind: str, trial_id: str) -> str:
    """Return the key of a finished trial's result. Two hexadecimal digits spread the files over 256 folders."""
    return f"trials/{kind}/{_hash(trial_id)[:2]}/{trial_id}.parquet"


def trials_prefix(kind: str) -> str:
    return f"trials/{kind}"


def trial_id_of(key: str) -> str:
    # string operations: PurePosixPath took half the time of a query over 14,400 trials
    return key.rpartition("/")[2].removesuffix(".parquet")


def trial_id_at(key: str, kind: str) -> str | None:
    """Return the id of the trial whose result has this key; None for a key that no trial of the kind can have."""
    trial_id = trial_id_of(key)
    return trial_id if "-" in trial_id and key == trial_key(kind, trial_id) else None


_RESULT = re.compile(r"trials/([a-z_]+)/[0-9a-f]{2}/[^/]+\.parquet", re.ASCII)


def kind_at(key: str) -> str | None:
    """Return the kind of the trial whose result has this key, registered or not; None for any other key."""
    match = _RESULT.fullmatch(key)
    return match[1] if match and trial_id_at(key, match[1]) is not None else None


COMPACT = "compact"
CURRENT = f"{COMPACT}/CURRENT.json"
"""Refers to the compacted file of each kind. The whole folder is an index that may be deleted at any time."""


_STAMP = "%Y%m%dT%H%M%SZ"
_COMPACTED = re.compile(rf"{COMPACT}/(\d{{8}}T\d{{6}}Z)-[0-9a-f]{{8}}/[a-z_]+\.parquet", re.ASCII)


def compact_key(generation: str, kind: str) -> str:
    return f"{COMPACT}/{generation}/{kind}.parquet"


def generation_name(now: datetime, unique: str) -> str:
    """Return the name of a generation that starts at ``now``; ``unique`` is 8 hexadecimal digits."""
    return f"{now:{_STAMP}}-{unique}"


def compacted_at(key: str) -> datetime | None:
    """Return when the generation of a compacted file started; None for a key that no compaction creates."""
    match = _COMPACTED.fullmatch(key)
    try:
        return datetime.strptime(match[1], _STAMP).replace(tzinfo=UTC) if match else None
    except ValueError:  # not a valid date
        return None


def conflict_key(kind: str, trial_id: str, digest: str) -> str:
    """Return the key of a conflicting result of a finished trial, which is kept separately from the first result."""
    return f"conflicts/{kind}/{trial_id}/{digest}.parquet"


IMPORTED = "imported-"
"""Prefix of the ids of imported trials."""


def imported_in_conflict(key: str) -> str | None:
    """Return the key of the result that an imported trial at a ``conflict_key`` contradicts; None if it was not
    imported.
    """
    parts = key.split("/")
    return trial_key(parts[1], parts[2]) if len(parts) == 4 and parts[2].startswith(IMPORTED) else None


MOST_CHECKPOINT_BYTES = 16 << 30
"""The largest supported network takes 3 GB with its optimizer state."""
MOST_WEIGHTS_BYTES = 4 << 30
"""The largest supported network (WideResNet-50-4) takes 0.9 GB."""


def checkpoints_prefix(trial_id: str) -> str:
    return f"checkpoints/{trial_id}"


def checkpoint_key(trial_id: str, epoch: int, batch: int, digest: str) -> str:
    """Return the key of a checkpoint taken before ``batch`` of ``epoch``; it contains the digest of the bytes."""
    return f"{checkpoints_prefix(trial_id)}/e{epoch:06d}-b{batch:06d}-{digest}.safetensors"


_CHECKPOINT = re.compile(r"checkpoints/[^/]+/e(\d{1,19})-b(\d{1,19})-([0-9a-f]{16})\.safetensors", re.ASCII)


def checkpoint_position(key: str) -> tuple[int, int] | None:
    """Return epoch and batch in a checkpoint's key; None for a key that ``checkpoint_key`` does not create."""
    match = _CHECKPOINT.fullmatch(key)
    return (int(match[1]), int(match[2])) if match else None


def checkpoint_digest(key: str) -> str | None:
    """Return the digest in a checkpoint's key; None as in ``checkpoint_position``."""
    match = _CHECKPOINT.fullmatch(key)
    return match[3] if match else None


def is_checkpoint(key: str) -> bool:
    return _CHECKPOINT.fullmatch(key) is not None


def trained_weights_key(trial_id: str) -> str:
    """Return the key of a finished trial's trained network, if its weights are kept."""
    return f"weights/{trial_id}.safetensors"


def pin_key(what: str, name: str) -> str:
    """Return the key of the pin of a name; ``what`` as in ``jobs.results.pins.pin``."""
    return f"{what}/{name}.json"


def study_key(name: str, digest: str) -> str:
    return f"studies/{name}/{digest}.yaml"


def launch_key(launch: str) -> str:
    return f"launches/{launch}.json"


def failure_key(trial_id: str, attempt: int) -> str:
    return f"failures/{trial_id}/{attempt}.json"


def log_key(trial_id: str, attempt: int) -> str:
    return f"logs/{trial_id}/{attempt}.log"


def output_key(trial_id: str, attempt: int) -> str:
    """Return the key of what an actor printed during an attempt, where it printed anything or took long."""
    return f"logs/{trial_id}/{attempt}.out"


def _hash(trial_id: str) -> str:
    return trial_id.rsplit("-", 1)[1]
