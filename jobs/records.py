"""From a finished trial to the rows that are committed, and the commit itself."""

import hashlib
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from safetensors.torch import save

from jobs.canonical import canonical_json
from jobs.pretrain import Pretraining
from jobs.provenance import code_version
from jobs.results import Committed, Store, commit, pin
from jobs.results.layout import trained_weights_key
from jobs.results.schema import schema
from jobs.results.trained import Trained, record_trained
from jobs.specs import TrialSpec, recipe_digest
from jobs.training import Training
from jobs.trial import Trial


class Attempt(NamedTuple):
    """Which try at a trial this is, counted from 1, and the launch it belongs to (empty: none)."""

    number: int = 1
    launch: str = ""


def commit_trial(store: Store, trial: Trial[Any, Any], attempt: Attempt, weights: bool = False) -> Committed:
    """Commit a finished trial; afterwards it is done (design, promise 2).

    Args:
        weights: keep the network's tensors, if the trial trains it, with torchvision's names, under the trial id. Those
            of a source are always kept. They are there before the commit, so that a trial that is done has them.

    Raises:
        ResultsConflict: when the root knows what the trial read under another digest.
    """
    assert trial.done, f"{trial.spec.trial_id} is not finished"
    kind, trial_id = trial.spec.kind, trial.spec.trial_id
    for one in trial.pins:
        pin(store, *one)
    if not isinstance(trial, Training):
        return commit(store, kind, rows(trial, attempt))
    tensors = trained_tensors(trial)
    network = Trained(hashlib.sha256(tensors).hexdigest(), trial.own_history)
    keeps = weights or isinstance(trial, Pretraining)
    if keeps:
        record_trained(store, kind, trial_id, network)
        store.replace(trained_weights_key(trial_id), tensors)
    committed = commit(store, kind, rows(trial, attempt, network.sha256))
    if keeps and committed is not Committed.NEW:
        record_trained(store, kind, trial_id, network)  # another may have been first meanwhile
    return committed


def trained_tensors(trial: Training[Any, Any]) -> bytes:
    """The trained network as a safetensors file, with torchvision's names."""
    return save({name: t.detach().cpu().contiguous() for name, t in trial.network.resnet.state_dict().items()})


def rows(trial: Trial[Any, Any], attempt: Attempt, trained_sha256: str | None = None) -> list[dict[str, object]]:
    """The trial's rows with every column of the kind's schema.

    Args:
        trained_sha256: of the trained network's file; the rows of trials that train have it.
    """
    shared = {**_identity(trial.spec), **trial.facts, **_measured(trial, attempt)}
    if "trained_sha256" in schema(trial.spec.kind).names:
        shared["trained_sha256"] = trained_sha256
    return [{**shared, **evaluation._asdict()} for evaluation in trial.evaluations]


def _identity(spec: TrialSpec) -> Mapping[str, object]:
    return {
        **spec.choices,
        "trial_id": spec.trial_id,
        "recipe": recipe_digest(spec.recipe),
        "recipe_json": canonical_json(spec.recipe.model_dump(mode="json")),
        "numerics": spec.numerics,
        "origin": "run",
    }


def _measured(trial: Trial[Any, Any], attempt: Attempt) -> Mapping[str, object]:
    return {
        **trial.history.columns,
        "host": socket.gethostname(),
        "attempt": attempt.number,
        "launch": attempt.launch,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_version": code_version(),
    }
