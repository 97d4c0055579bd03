"""The released code's training: the ``robustness`` library's own loop, model, normaliser, optimiser and schedule.

Fine-tuning in the released code is ``robustness.train.train_model`` on an ``AttackerModel`` around the library's
ResNet-50, with the frozen part's ``requires_grad`` switched off. The library is used as it is, but for three things: a
module that it imports and that torchvision no longer has, its calls of ``.cuda()``, and the checkpoints it writes.
"""

import sys
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any, Protocol

import pytest
import torch
from torch import Tensor, nn

STATISTICS = {
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "cifar10": ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]),
    "fmnist": ([0.1801] * 3, [0.3421] * 3),
    "digits": ([0.3050] * 3, [0.3753] * 3),
}
"""Mean and std as the released code has them (design, section 9), and those of the bundled digits."""

_TRAINED = {0: ["fc."], 1: ["layer4.2.", "fc."], 3: ["layer4.", "fc."], 9: ["layer3.", "layer4.", "fc."]}
"""Figure 9: the names that the parameters of the fine-tuned part begin with."""


class Batches(Protocol):
    """A data loader: images N x 3 x H x W in [0, 1] and labels N. Each pass may be another one."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...

    def __len__(self) -> int: ...


@contextmanager
def _robustness() -> Iterator[tuple[Any, Any, Any]]:
    """The library's ``train``, ``attacker`` and ``imagenet_models``, on the CPU."""
    utils = ModuleType("torchvision.models.utils")
    vars(utils)["load_state_dict_from_url"] = torch.hub.load_state_dict_from_url
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own: apex is not there
        patch.setitem(sys.modules, "torchvision.models.utils", utils)
        patch.setattr(nn.Module, "cuda", lambda self, *_, **__: self)
        patch.setattr(Tensor, "cuda", lambda self, *_, **__: self)
        patch.setattr(torch, "save", lambda *_, **__: None)
        from robustness import attacker, imagenet_models, train

        yield train, attacker, imagenet_models


def released_model(tensors: dict[str, Tensor], fc: nn.Linear, mean_and_std: str, blocks: int) -> nn.Module:
    """The library's ResNet-50 with a source's tensors and a trial's FC layer, frozen but for its last ``blocks``."""
    mean, std = (torch.tensor(numbers) for numbers in STATISTICS[mean_and_std])
    with _robustness() as (_, attacker, imagenet_models):
        resnet = imagenet_models.resnet50(num_classes=len(tensors["fc.bias"]))
        resnet.load_state_dict(tensors)
        resnet.fc = nn.Linear(fc.in_features, fc.out_features)
        resnet.fc.load_state_dict(fc.state_dict())
        for name, parameter in resnet.named_parameters():
            parameter.requires_grad = any(name.startswith(start) for start in _TRAINED[blocks])
        model: nn.Module = attacker.AttackerModel(resnet, SimpleNamespace(mean=mean, std=std))
    return model


def resnet_of(model: nn.Module) -> Any:
    """The ResNet behind the normaliser of a ``released_model``."""
    return model.get_submodule("model")


def train_as_released(
    model: nn.Module,
    train: Batches,
    test: Batches,
    epochs: int,
    learning_rate: float,
    on_step: Callable[[nn.Module, Tensor, Tensor], None],
    on_epoch: Callable[[dict[str, float]], None],
) -> None:
    """The library's ``train_model``, natural, with the momentum and weight decay of Table 3; every epoch is evaluated.

    Args:
        on_step: called after every optimiser step with the ResNet, the images and the labels.
        on_epoch: called with the library's log of the epoch.
    """

    def step(parallel: Any, _: int, kind: str, images_NCHW: Tensor, labels_N: Tensor) -> None:
        if kind == "train":
            on_step(parallel.module.model, images_NCHW, labels_N)

    settings = Namespace(
        adv_train=0,
        adv_eval=0,
        epochs=epochs,
        lr=learning_rate,
        momentum=0.9,
        weight_decay=5e-4,
        step_lr=epochs // 3,
        step_lr_gamma=0.1,
        custom_lr_multiplier=None,
        mixed_precision=False,
        out_dir="nowhere",
        log_iters=1,
        save_ckpt_iters=-1,
        iteration_hook=step,
        epoch_hook=lambda _, log: on_epoch(log),
    )
    with _robustness() as (library, _, _):
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        library.train_model(settings, model, (train, test), update_params=trained)
