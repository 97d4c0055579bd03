"""Where things lie under a results root (design, section 4): one function a kind of key.

What is removed has a key of the form that is given here: ``compacted_at``, ``is_checkpoint``.
"""

import re
from datetime import UTC, datetime

NAME_BYTES = 255
"""Of a file's name, on the file systems that there are."""


def trial_key(kind: str, trial_id: str) -> str:
    """The result of a finished trial. Two hexadecimal digits spread the files over 256 folders."""
    return f"trials/{kind}/{_hash(trial_id)[:2]}/{trial_id}.parquet"


def trials_prefix(kind: str) -> str:
    return f"trials/{kind}"


def trial_id_of(key: str) -> str:
    # by hand: a PurePosixPath a key was half the time of a query over 14,400 trials
    return key.rpartition("/")[2].removesuffix(".parquet")


def trial_id_at(key: str, kind: str) -> str | None:
    """The trial whose result a key is; None for a key that no trial of the kind has."""
    trial_id = trial_id_of(key)
    return trial_id if "-" in trial_id and key == trial_key(kind, trial_id) else None


COMPACT = "compact"
CURRENT = f"{COMPACT}/CURRENT.json"
"""Names the compacted file of each kind. The whole folder is an index that may be deleted at any time."""


_STAMP = "%Y%m%dT%H%M%SZ"
_COMPACTED = re.compile(rf"{COMPACT}/(\d{{8}}T\d{{6}}Z)-[0-9a-f]{{8}}/[a-z_]+\.parquet", re.ASCII)


def compact_key(generation: str, kind: str) -> str:
    return f"{COMPACT}/{generation}/{kind}.parquet"


def generation_name(now: datetime, unique: str) -> str:
    """The name of a generation that begins ``now``; ``unique`` are 8 hexadecimal digits."""
    return f"{now:{_STAMP}}-{unique}"


def compacted_at(key: str) -> datetime | None:
    """When the generation of a compacted file was begun; None for a key that no compaction gives."""
    match = _COMPACTED.fullmatch(key)
    try:
        return datetime.strptime(match[1], _STAMP).replace(tzinfo=UTC) if match else None
    except ValueError:  # no such day
        return None


def conflict_key(kind: str, trial_id: str, digest: str) -> str:
    """Other numbers under the id of a finished trial: kept aside, never in place of the first."""
    return f"conflicts/{kind}/{trial_id}/{digest}.parquet"


IMPORTED = "imported-"
"""How the ids of imported trials begin."""


def imported_in_conflict(key: str) -> str | None:
    """The result that an imported trial at ``conflict_key`` contradicts; None for what was not imported."""
    parts = key.split("/")
    return trial_key(parts[1], parts[2]) if len(parts) == 4 and parts[2].startswith(IMPORTED) else None


MOST_CHECKPOINT_BYTES = 16 << 30
"""The largest network there is, with its optimiser's state, has 3 GB."""
MOST_WEIGHTS_BYTES = 4 << 30
"""The largest network there is (WideResNet-50-4) has 0.9 GB."""


def checkpoints_prefix(trial_id: str) -> str:
    return f"checkpoints/{trial_id}"


def checkpoint_key(trial_id: str, epoch: int, batch: int, digest: str) -> str:
    """A checkpoint before ``batch`` of ``epoch``; its name says what the bytes must hash to."""
    return f"{checkpoints_prefix(trial_id)}/e{epoch:06d}-b{batch:06d}-{digest}.safetensors"


_CHECKPOINT = re.compile(r"checkpoints/[^/]+/e(\d{1,19})-b(\d{1,19})-([0-9a-f]{16})\.safetensors", re.ASCII)


def checkpoint_position(key: str) -> tuple[int, int] | None:
    """Epoch and batch that a checkpoint's key says; None for a key that ``checkpoint_key`` does not give."""
    match = _CHECKPOINT.fullmatch(key)
    return (int(match[1]), int(match[2])) if match else None


def checkpoint_digest(key: str) -> str | None:
    """What the bytes of a checkpoint must hash to; None as for ``checkpoint_position``."""
    match = _CHECKPOINT.fullmatch(key)
    return match[3] if match else None


def is_checkpoint(key: str) -> bool:
    return _CHECKPOINT.fullmatch(key) is not None


def trained_weights_key(trial_id: str) -> str:
    """The trained network of a finished trial, when its study says ``keep_weights``."""
    return f"weights/{trial_id}.safetensors"


def pin_key(what: str, name: str) -> str:
    """The digest that a name (``what``: sources or datasets) stands for in this root."""
    return f"{what}/{name}.json"


def study_key(name: str, digest: str) -> str:
    return f"studies/{name}/{digest}.yaml"


def launch_key(launch: str) -> str:
    return f"launches/{launch}.json"


def failure_key(trial_id: str, attempt: int) -> str:
    return f"failures/{trial_id}/{attempt}.json"


def log_key(trial_id: str, attempt: int) -> str:
    return f"logs/{trial_id}/{attempt}.log"


def _hash(trial_id: str) -> str:
    return trial_id.rsplit("-", 1)[1]
