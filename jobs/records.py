"""From a finished trial to the rows that are committed, and the commit itself."""

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
from jobs.provenance import code_version, packages
from jobs.results import Committed, Store, commit, pin, require_pin
from jobs.results.layout import trained_weights_key
from jobs.specs import FinetuneSpec, recipe_digest


class Attempt(NamedTuple):
    """Which try at a trial this is, counted from 1, and the launch it belongs to (empty: none)."""

    number: int = 1
    launch: str = ""


def commit_finetuning(store: Store, trial: Finetuning, attempt: Attempt) -> Committed:
    """Commit a finished trial; afterwards it is done (design, promise 2).

    Raises:
        ResultsConflict: when the root knows the source's or the dataset's name under another digest.
    """
    assert trial.done, f"{trial.spec.trial_id} is not finished"
    pin(store, "sources", trial.spec.source, trial.weights.sha256)
    pin(store, "datasets", trial.spec.dataset, trial.data.sha256)
    return commit(store, trial.spec.kind, rows(trial, attempt))


def keep_weights(store: Store, trial: Finetuning) -> None:
    """Put the trained network's tensors under the trial id, with torchvision's names; before the commit, so that a
    trial that is done has them.
    """
    tensors = {name: t.detach().cpu().contiguous() for name, t in trial.network.resnet.state_dict().items()}
    store.replace(trained_weights_key(trial.spec.trial_id), save(tensors))


def require_pins(store: Store, trial: Finetuning) -> None:
    """Refuse a trial whose source or dataset is not the one that this root's results are made with.

    Raises:
        ResultsConflict: naming both digests.
    """
    require_pin(store, "sources", trial.spec.source, trial.weights.sha256)
    require_pin(store, "datasets", trial.spec.dataset, trial.data.sha256)


def rows(trial: Finetuning, attempt: Attempt) -> list[dict[str, object]]:
    """One row an evaluated epoch, with every column of the kind's schema."""
    shared = {**_identity(trial.spec), **_facts(trial), **_measured(trial, attempt)}
    return [{**shared, **evaluation._asdict()} for evaluation in trial.evaluations]


def _identity(spec: FinetuneSpec) -> Mapping[str, object]:
    columns = spec.model_dump(exclude={"recipe"})
    return {
        **columns,
        "trial_id": spec.trial_id,
        "recipe": recipe_digest(spec.recipe),
        "recipe_json": canonical_json(spec.recipe.model_dump(mode="json")),
        "numerics": spec.numerics,
        "origin": "run",
    }


def _facts(trial: Finetuning) -> Mapping[str, object]:
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


def _measured(trial: Finetuning, attempt: Attempt) -> Mapping[str, object]:
    return {
        "device_kind": device_kind(trial.device),
        "host": socket.gethostname(),
        "attempt": attempt.number,
        "launch": attempt.launch,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_version": code_version(),
        "packages": json.dumps(packages()),
    }
