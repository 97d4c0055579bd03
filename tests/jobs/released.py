"""Published source models in the real formats, generated for tests: checkpoints of torchvision and ``robustness``."""

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

from jobs.catalog.catalog import PACKAGED
from jobs.catalog.source_card import SourceCard
from tests.jobs.support import built

MEAN, STD = (0.31, 0.32, 0.33), (0.21, 0.22, 0.23)


def register(monkeypatch: pytest.MonkeyPatch, name: str = "tiny", **changes: Any) -> SourceCard:
    """Register a published miniature; changes of ``release`` are merged into it."""
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
    monkeypatch.setitem(PACKAGED.sources, name, made)
    return made


def resnet_of(tensors: dict[str, Tensor], architecture: str = "resnet35-w8", labels: int = 10) -> ResNet:
    """Return a new network with these tensors."""
    resnet = built(architecture, labels)
    resnet.load_state_dict(tensors)
    return resnet


def attacker_state(
    resnet: nn.Module, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD
) -> dict[str, Tensor]:
    """Return the state that the robustness library's trainer saves: its own wrapper behind DataParallel."""
    dataset = SimpleNamespace(mean=torch.tensor(mean), std=torch.tensor(std))
    return dict(nn.DataParallel(AttackerModel(resnet, dataset)).state_dict())


def save_robustness(path: Path, state: dict[str, Tensor], zipped: bool = True, **more: Any) -> Path:
    """Write a checkpoint like the robustness library: with dill, and with optimizer and schedule beside the network."""
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
    """A pickled object that would create a file when read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)
