"""Helpers for several tests of the jobs: specs of small trials, generated weights, rows of a result."""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from robustness.attacker import Attacker
from torch import Tensor

from jobs.catalog.catalog import PACKAGED
from jobs.catalog.dataset_card import DatasetCard
from jobs.data.datasets import Dataset, ImageSet, load_dataset
from jobs.execution.commit import Attempt, rows
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.kinds.finetune.trial import Evaluation, Finetuning
from jobs.models.weights import SourceWeights
from jobs.networks.builders import build, initialize
from jobs.networks.network import Network
from jobs.networks.small import resnet35_w8
from jobs.specs.recipes import Recipe
from jobs.specs.threat_model import Constraint, ThreatModel

CPU = torch.device("cpu")


def finetune_spec(recipe: dict[str, Any] | None = None, **changes: Any) -> FinetuneSpec:
    """Return a small trial: 20 images, three batches per epoch, four epochs, each evaluated."""
    values = {
        "source": "fmnist_l2_eps1",
        "dataset": "digits",
        "blocks": 3,
        "images": 20,
        "seed": 7,
        "epochs": 4,
        "evaluate_every": 1,
    }
    return FinetuneSpec(recipe=Recipe(**{"batch_size": 8, **(recipe or {})}), **{**values, **changes})


def load_short(card: DatasetCard, *place: Any, **how: Any) -> Dataset:
    """Load a dataset with only the first 64 of its test images."""
    data = load_dataset(card, *place, **how)
    return data._replace(test=ImageSet(data.test.images_NCHW[:64], data.test.labels_N[:64]))


def few_images(data: Dataset) -> Dataset:
    """Return 64 training and 64 test images of a dataset."""
    train, test = (ImageSet(part.images_NCHW[:64], part.labels_N[:64]) for part in (data.train, data.test))
    return data._replace(train=train, test=test)


def built(architecture: str, labels: int) -> Any:
    """Return a network of a packaged architecture with fresh weights."""
    return build(PACKAGED.architecture(architecture), labels).model


def make_weights(seed: int, labels: int = 10) -> SourceWeights:
    """Return the miniature initialized from a seed, with running statistics that are not the initial ones."""
    rng = torch.Generator().manual_seed(seed)
    network = resnet35_w8(labels)
    initialize(network, rng)
    tensors = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    for name, tensor in tensors.items():
        if name.endswith(("running_mean", "running_var")):
            tensor.copy_(torch.rand(tensor.shape, generator=rng) * 0.2 + (0.9 if name.endswith("var") else 0))
    return SourceWeights(tensors, hashlib.sha256(f"made {seed}".encode()).hexdigest())


def moved_by_robustness(network: Network, images_NCHW: Tensor, labels_N: Tensor, threat: ThreatModel) -> Tensor:
    """Return images moved by the robustness library's attacker, from zero to the last iterate."""
    oracle = Attacker(network, SimpleNamespace(mean=torch.zeros(3), std=torch.ones(3)))
    found: Tensor = oracle(
        images_NCHW,
        labels_N,
        constraint={Constraint.L2: "2", Constraint.LINF: "inf"}[threat.constraint],
        eps=threat.epsilon,
        step_size=threat.step_size,
        iterations=threat.steps,
        random_start=False,
        use_best=False,
        should_normalize=False,  # the network itself normalizes
    )
    return found


def finetuned(spec: FinetuneSpec, weights: SourceWeights, data: Dataset) -> Finetuning:
    """Return a trial, run to its end without a pause."""
    trial = Finetuning(spec, weights, data, CPU)
    trial.advance()
    assert trial.done
    return trial


def numbers(trial: Finetuning) -> list[Evaluation]:
    """Return what a trial computed, without the seconds."""
    return [evaluation._replace(seconds=0.0) for evaluation in trial.evaluations]


def trial_rows(trial: Finetuning) -> list[dict[str, object]]:
    """Return the rows that a finished trial would commit."""
    return rows(trial, Attempt())


def damage(path: Path, place: int, bit: int = 64) -> None:
    """Flip a bit of a file in place."""
    with path.open("r+b") as file:
        file.seek(place, 0 if place >= 0 else 2)
        (byte,) = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte ^ bit]))
