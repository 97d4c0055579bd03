"""From a finished trial to the rows that are committed, and the commit itself."""

import hashlib
import json
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from safetensors.torch import save

from jobs import registry
from jobs.canonical import canonical_json
from jobs.finetune import Finetuning
from jobs.numerics import device_kind
from jobs.pretrain import Pretraining
from jobs.provenance import code_version, packages
from jobs.results import Committed, Store, commit, pin
from jobs.results.layout import trained_weights_key
from jobs.specs import AnySpec, recipe_digest


class Attempt(NamedTuple):
    """Which try at a trial this is, counted from 1, and the launch it belongs to (empty: none)."""

    number: int = 1
    launch: str = ""


def commit_trial(store: Store, trial: Finetuning | Pretraining, attempt: Attempt, weights: bool = False) -> Committed:
    """Commit a finished trial; afterwards it is done (design, promise 2).

    Args:
        weights: keep the trained network's tensors, with torchvision's names, under the trial id. Those of a source
            are always kept. They are there before the commit, so that a trial that is done has them.

    Raises:
        ResultsConflict: when the root knows what the trial read under another digest.
    """
    assert trial.done, f"{trial.spec.trial_id} is not finished"
    for one in trial.pins:
        pin(store, *one)
    if isinstance(trial, Finetuning) and not weights:
        return commit(store, trial.spec.kind, rows(trial, attempt))
    tensors = trained_tensors(trial)
    store.replace(trained_weights_key(trial.spec.trial_id), tensors)
    return commit(store, trial.spec.kind, rows(trial, attempt, hashlib.sha256(tensors).hexdigest()))


def trained_tensors(trial: Finetuning | Pretraining) -> bytes:
    """The trained network as a safetensors file, with torchvision's names."""
    return save({name: t.detach().cpu().contiguous() for name, t in trial.network.resnet.state_dict().items()})


def rows(
    trial: Finetuning | Pretraining, attempt: Attempt, trained_sha256: str | None = None
) -> list[dict[str, object]]:
    """One row an evaluated epoch, with every column of the kind's schema.

    Args:
        trained_sha256: of the trained network's file; a source's rows have it.
    """
    facts = _finetuned(trial) if isinstance(trial, Finetuning) else _pretrained(trial, trained_sha256)
    shared = {**_identity(trial.spec), **facts, **_measured(trial, attempt)}
    return [{**shared, **evaluation._asdict()} for evaluation in trial.evaluations]


def _identity(spec: AnySpec) -> Mapping[str, object]:
    return {
        **spec.model_dump(exclude={"recipe", "threat"}),
        "trial_id": spec.trial_id,
        "recipe": recipe_digest(spec.recipe),
        "recipe_json": canonical_json(spec.recipe.model_dump(mode="json")),
        "numerics": spec.numerics,
        "origin": "run",
    }


def _finetuned(trial: Finetuning) -> Mapping[str, object]:
    source = registry.source(trial.spec.source)
    return {
        "constraint": source.constraint.value,
        "epsilon": source.epsilon,
        "images_used": len(trial.subset),
        "test_images": len(trial.data.test.labels_N),
        "weights_sha256": trial.weights.sha256,
        "dataset_sha256": trial.data.sha256,
        "subset_sha256": trial.subset_sha256,
    }


def _pretrained(trial: Pretraining, trained_sha256: str | None) -> Mapping[str, object]:
    return {
        **trial.spec.threat.model_dump(mode="json"),
        "images_used": len(trial.data.train.labels_N),
        "test_images": len(trial.data.test.labels_N),
        "dataset_sha256": trial.data.sha256,
        "trained_sha256": trained_sha256,
    }


def _measured(trial: Finetuning | Pretraining, attempt: Attempt) -> Mapping[str, object]:
    return {
        "device_kind": device_kind(trial.device),
        "host": socket.gethostname(),
        "attempt": attempt.number,
        "launch": attempt.launch,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_version": code_version(),
        "packages": json.dumps(packages()),
    }
