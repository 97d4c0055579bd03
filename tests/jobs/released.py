"""Published source models in the real formats, made for the tests: checkpoints of torchvision and of ``robustness``."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dill
import pytest
import torch
from robustness.attacker import AttackerModel
from torch import Tensor, nn
from torchvision.models.resnet import ResNet

from jobs import registry
from jobs.networks import BUILDERS
from jobs.registry import SourceCard

MEAN, STD = (0.31, 0.32, 0.33), (0.21, 0.22, 0.23)


def register(monkeypatch: pytest.MonkeyPatch, name: str = "tiny", **changes: Any) -> SourceCard:
    """Put a miniature that somebody publishes into the registry; changes of ``release`` are merged into it."""
    release = {"file": "tiny.pt", "format": "robustness", "urls": ["http://127.0.0.1:9/tiny.pt"]}
    card = {
        "name": name,
        "architecture": "resnet35-w8",
        "trained_on": "digits",
        "constraint": "l2",
        "epsilon": 1,
        "mean": MEAN,
        "std": STD,
        "licence": "CC0",
        **changes,
        "release": release | changes.get("release", {}),
    }
    made = SourceCard.model_validate(card)
    monkeypatch.setitem(registry.sources(), name, made)
    return made


def resnet_of(tensors: dict[str, Tensor], architecture: str = "resnet35-w8", labels: int = 10) -> ResNet:
    """A network of its own with these tensors."""
    resnet = BUILDERS[architecture](labels)
    resnet.load_state_dict(tensors)
    return resnet


def attacker_state(
    resnet: nn.Module, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD
) -> dict[str, Tensor]:
    """The state that the robustness library's trainer saves: its own wrapper behind DataParallel."""
    dataset = SimpleNamespace(mean=torch.tensor(mean), std=torch.tensor(std))
    return dict(nn.DataParallel(AttackerModel(resnet, dataset)).state_dict())


def save_robustness(path: Path, state: dict[str, Tensor], zipped: bool = True, **more: Any) -> Path:
    """A checkpoint as the robustness library writes it: by dill, with optimiser and schedule beside the network."""
    parameters = [nn.Parameter(torch.zeros(2))]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    saved = {
        "model": state,
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "epoch": 90,
        "amp": None,
        **more,
    }
    torch.save(saved, path, pickle_module=dill, _use_new_zipfile_serialization=zipped)
    return path


class RunsCode:
    """A pickled object that would make a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)
