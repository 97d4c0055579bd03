"""The rows of a finished trial, and their commit."""

import hashlib
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from jobs.catalog.catalog import Catalog
from jobs.errors import DamagedFile
from jobs.execution.retention import keeps_weights
from jobs.execution.trial import Trial
from jobs.kind import workload
from jobs.models.storable import saved
from jobs.provenance import code_version
from jobs.results import Committed, Store, commit, pin
from jobs.results.layout import trained_weights_key, trial_key
from jobs.results.parquet import looks_whole
from jobs.results.schema import most_bytes, schema
from jobs.results.trained import Trained, commit_with_weights
from jobs.specs.canonical import canonical_json
from jobs.specs.trial import TrialSpec, recipe_digest


class Attempt(NamedTuple):
    """Number of this attempt at a trial, from 1, and the id of its launch (empty: none)."""

    number: int = 1
    launch: str = ""


def is_committed(store: Store, spec: TrialSpec, catalog: Catalog, weights: bool = False) -> bool:
    """Return whether a trial need not run, because another process has committed it meanwhile: its whole result is in
    the root and, if it keeps its network, so are the weights.

    Takes one request, and a second one for weights.

    Args:
        weights: as in ``commit_trial``.
    """
    try:
        if not looks_whole(store.read_within(trial_key(spec.kind, spec.trial_id), most_bytes(spec.kind))):
            return False
        if keeps_weights(spec, workload(spec, catalog).checkpoint_blocks is not None, weights):
            store.read_start(trained_weights_key(spec.trial_id), 1)
    except (FileNotFoundError, DamagedFile):
        return False
    return True


def commit_trial(store: Store, trial: Trial[Any, Any], attempt: Attempt, weights: bool = False) -> Committed:
    """Commit a finished trial, which makes it done (docs/explanation/architecture.md).

    Args:
        weights: if the trial trains its network, keep its tensors under the trial id, with torchvision's names. Weights
            of a source are always kept (``commit_with_weights``).

    Raises:
        ResultsConflict: if the results root has another digest for something that the trial read.
    """
    assert trial.done, f"{trial.spec.trial_id} is not finished"
    kind = trial.spec.kind
    for pinned in trial.pins:
        pin(store, *pinned)
    trained = trial.trained_tensors()
    if trained is None:
        return commit(store, kind, rows(trial, attempt))
    tensors = saved(trained)
    network = Trained(hashlib.sha256(tensors).hexdigest(), trial.own_history)
    own = rows(trial, attempt, network.sha256)
    if keeps_weights(trial.spec, True, weights):
        return commit_with_weights(store, kind, own, network, tensors)
    return commit(store, kind, own)


def rows(trial: Trial[Any, Any], attempt: Attempt, trained_sha256: str | None = None) -> list[dict[str, object]]:
    """Return the trial's rows with every column of the kind's schema.

    Args:
        trained_sha256: digest of the trained network's file; a column of the kinds that train.
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
        "numerics": spec.numerics_version,
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
