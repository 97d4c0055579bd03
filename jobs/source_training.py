"""Making a source model: pretrain, measure, write weights and card (``deltasweep models train``)."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from jobs import registry
from jobs.batches import in_order
from jobs.data.datasets import Dataset, load_dataset
from jobs.errors import InvalidRequest
from jobs.evaluation import evaluate
from jobs.networks import Network
from jobs.numerics import device_kind, memory_format, numerics
from jobs.pretrain import EpochReport, adversarial_accuracy, pretrain
from jobs.provenance import code_version, packages
from jobs.specs import Constraint, PretrainSpec, ThreatModel
from jobs.weights import write_source

_ATTACK_STEPS = 20  # PGD(20), the attack the paper trains with (A.2)


def train_source(
    name: str,
    out: Path,
    data_directory: Path | None = None,
    device: torch.device | None = None,
    on_epoch: Callable[[EpochReport], None] = lambda _: None,
) -> Path:
    """Train the source ``name`` by its card's spec and write it to ``out``.

    Args:
        data_directory: the folder with the source dataset's files; by default where this machine keeps them.

    Returns:
        The path of the weights; the card lies beside it.
    """
    device = device or torch.device("cpu")
    card = registry.source(name)
    spec = card.pretrain_spec()
    data = load_dataset(spec.dataset, registry.architecture(spec.architecture).image_size, data_directory)
    _require_folder(out)
    started = time.monotonic()
    epochs: list[EpochReport] = []

    def remember(report: EpochReport) -> None:
        epochs.append(report)
        on_epoch(report)

    network = pretrain(spec, data, device, remember)
    facts = {
        "command": f"deltasweep models train {name}",
        "trial_id": spec.trial_id,
        "spec": spec.model_dump(mode="json"),
        "dataset_sha256": data.sha256,
        "seed": spec.seed,
        "training": [report._asdict() for report in epochs],
        **_measure(network, spec, data, device),
        "code_version": code_version(),
        "packages": packages(),
        "device_kind": device_kind(device),
        "seconds": round(time.monotonic() - started, 1),
    }
    return write_source(out, name, network.resnet.state_dict(), facts)


def _require_folder(out: Path) -> None:
    """Fail now rather than after the training."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise InvalidRequest(f"weights are written into a folder; {out} cannot be ({error}). Name another") from error


def _measure(network: Network, spec: PretrainSpec, data: Dataset, device: torch.device) -> dict[str, Any]:
    """Clean accuracy, and PGD(20) accuracy in every ball that some source of the same dataset was trained in."""
    recipe = spec.recipe
    batches = in_order(data.test, recipe.evaluation_batch_size, device, memory_format(recipe))
    with numerics(recipe):
        clean = evaluate(network, batches).accuracy_percent
    attacks = [
        {
            "constraint": threat.constraint.value,
            "epsilon": threat.epsilon,
            "steps": threat.steps,
            "accuracy": adversarial_accuracy(network, data.test, threat, recipe, device),
        }
        for threat in _balls(spec.dataset)
    ]
    return {"clean_accuracy": clean, "adversarial_accuracy": attacks}


def _balls(dataset: str) -> list[ThreatModel]:
    """The balls of all sources trained on a dataset; Gaussian noise is projected on an L2 ball."""
    norms = {Constraint.L2: Constraint.L2, Constraint.GAUSSIAN: Constraint.L2, Constraint.LINF: Constraint.LINF}
    cards = [card for card in registry.sources().values() if card.trained_on == dataset]
    balls = sorted({(norms[card.constraint], card.epsilon) for card in cards if card.constraint in norms})
    return [ThreatModel(constraint=norm, epsilon=epsilon, steps=_ATTACK_STEPS) for norm, epsilon in balls]
