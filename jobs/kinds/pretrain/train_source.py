"""Train a source model, measure it, and write weights and card (``deltasweep models train``)."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from jobs.catalog.catalog import Catalog
from jobs.data.datasets import load_dataset
from jobs.errors import Code, InvalidRequest
from jobs.execution.attempt import AttemptStatus, attempt_trial
from jobs.execution.commit import Attempt
from jobs.execution.retention import RetentionPolicy
from jobs.kinds.pretrain.kind import require_trainable
from jobs.kinds.pretrain.spec import pretrain_spec
from jobs.kinds.pretrain.trial import Pretraining, adversarial_accuracy, attack_in
from jobs.kinds.training.trial import Evaluated
from jobs.models.weights import write_source
from jobs.networks.describe import require_own_described
from jobs.possible import require_possible
from jobs.provenance import code_version, packages
from jobs.results import begin, next_attempt, open_store
from jobs.system.commands import command

CPU = torch.device("cpu")
CHECKPOINT_BATCHES = 500


def train_source(
    name: str,
    out: Path,
    catalog: Catalog,
    root: str | None = None,
    data_directory: Path | None = None,
    device: torch.device = CPU,
    stop: Callable[[], bool] = lambda: False,
    on_evaluation: Callable[[Evaluated], None] = lambda _: None,
) -> Path | None:
    """Train the source ``name`` by its card's spec and write it to ``out``; resume an earlier, unfinished training.

    Args:
        root: the results root for checkpoints and the result; default: ``out``/training.
        data_directory: the folder with the source dataset's files; default: this machine's data directory.
        stop: called between batches; if it returns true, the trial is checkpointed and the training ends.

    Returns:
        The path of the weights, with the card next to it; None if ``stop`` returned true first.

    Raises:
        InvalidRequest: if DeltaSweep does not train the source, or its card has choices that are impossible or have no
            effect.
    """
    card = catalog.source(name)
    require_trainable(card, catalog)
    spec = pretrain_spec(card, catalog)
    require_possible(spec, catalog)
    require_own_described([spec.architecture], catalog)
    size = catalog.architecture(spec.architecture).image_size
    data = load_dataset(catalog.dataset(spec.dataset), size, data_directory)
    _require_folder(out)
    store = open_store(root or str(out / "training"))
    begin(store)
    trial = Pretraining(spec, data, device, catalog, directory=data_directory)
    attempt = Attempt(next_attempt(store, spec.trial_id))
    retention = RetentionPolicy(checkpoint_every=1, checkpoint_batches=CHECKPOINT_BATCHES)
    if attempt_trial(store, trial, attempt, retention, stop, on_evaluation).status is AttemptStatus.STOPPED:
        return None
    facts = {
        "command": command("models", "train", name),
        "trial_id": spec.trial_id,
        "spec": spec.model_dump(mode="json"),
        "dataset_sha256": data.sha256,
        "seed": spec.seed,
        "training": [evaluation._asdict() for evaluation in trial.evaluations],
        **_measure(trial),
        "code_version": code_version(),
        "packages": packages(),
        "device_kind": trial.history.columns["device_kind"],
        "seconds": round(trial.seconds, 1),
    }
    return write_source(out, name, trial.network.model.state_dict(), facts)


def _require_folder(out: Path) -> None:
    """Require a writable folder before the training starts."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise InvalidRequest(
            Code.WRONG_PLACE,
            f"expected a writable folder for weights; cannot write to {out} ({error}). Fix: name another folder",
            file=out,
            key="--out",
        ) from error


def _measure(trial: Pretraining) -> dict[str, Any]:
    """Measure clean accuracy, and PGD(20) accuracy in several balls.

    These are the pixel-space balls of all sources of the same dataset that DeltaSweep trains, and the source's own.
    """
    threat = trial.spec.threat
    sources = trial.catalog.sources.values()
    cards = [card for card in sources if card.pretrain and card.trained_on == trial.spec.dataset]
    balls = {attack_in(card.constraint, card.epsilon) for card in cards if card.band is None}
    balls.add(attack_in(threat.constraint, threat.epsilon, threat.band))
    attacks = sorted((ball for ball in balls if ball), key=lambda ball: (ball.ball, ball.epsilon))
    measured = [
        {
            "constraint": ball.constraint.value,
            "epsilon": ball.epsilon,
            **({"band": ball.band} if ball.band else {}),
            "steps": ball.steps,
            "accuracy": adversarial_accuracy(trial.network, trial.data.test, ball, trial.spec.recipe, trial.device),
        }
        for ball in attacks
    ]
    return {"clean_accuracy": trial.evaluations[-1].test_accuracy, "adversarial_accuracy": measured}
