"""Making a source model: pretrain, measure, write weights and card (``deltasweep models train``)."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from jobs import registry
from jobs.attempts import Ending, Keeping, attempt_trial
from jobs.checks import require_possible
from jobs.data.datasets import load_dataset
from jobs.errors import Code, InvalidRequest
from jobs.pretrain import Pretraining, adversarial_accuracy, attack_in
from jobs.provenance import code_version, packages
from jobs.records import Attempt
from jobs.results import next_attempt, open_store
from jobs.training import Evaluated
from jobs.weights import write_source

CPU = torch.device("cpu")
CHECKPOINT_BATCHES = 500


def train_source(
    name: str,
    out: Path,
    root: str | None = None,
    data_directory: Path | None = None,
    device: torch.device = CPU,
    stop: Callable[[], bool] = lambda: False,
    on_evaluation: Callable[[Evaluated], None] = lambda _: None,
) -> Path | None:
    """Train the source ``name`` by its card's spec and write it to ``out``; what was begun before is gone on with.

    Args:
        root: the results root that keeps checkpoints and the result; by default ``out``/training.
        data_directory: the folder with the source dataset's files; by default where this machine keeps them.
        stop: asked between batches; true saves and leaves.

    Returns:
        The path of the weights, the card beside it; None when ``stop`` said so first.
    """
    card = registry.source(name)
    spec = card.pretrain_spec()
    require_possible(spec)
    data = load_dataset(spec.dataset, registry.architecture(spec.architecture).image_size, data_directory)
    _require_folder(out)
    store = open_store(root or str(out / "training"))
    trial = Pretraining(spec, data, device)
    attempt = Attempt(next_attempt(store, spec.trial_id))
    keeping = Keeping(checkpoint_every=1, checkpoint_batches=CHECKPOINT_BATCHES)
    if attempt_trial(store, trial, attempt, keeping, stop, on_evaluation).ending is Ending.STOPPED:
        return None
    facts = {
        "command": f"deltasweep models train {name}",
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
    return write_source(out, name, trial.network.resnet.state_dict(), facts)


def _require_folder(out: Path) -> None:
    """Fail now rather than after the training."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise InvalidRequest(
            Code.WRONG_PLACE,
            f"weights are written into a folder; {out} cannot be ({error}). Name another",
            file=out,
            key="--out",
        ) from error


def _measure(trial: Pretraining) -> dict[str, Any]:
    """Clean accuracy, and PGD(20) accuracy in every ball of pixels that some source of the same dataset was trained in,
    and in the source's own.
    """
    threat = trial.spec.threat
    cards = [card for card in registry.sources().values() if card.pretrain and card.trained_on == trial.spec.dataset]
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
