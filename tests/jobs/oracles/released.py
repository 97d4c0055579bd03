"""The released code's training: the ``robustness`` library's own loop, model, normalizer, optimizer and schedule.

Fine-tuning in the released code is ``robustness.train.train_model`` on an ``AttackerModel`` around the library's
ResNet-50, with ``requires_grad`` switched off for the frozen part. The library is used unchanged except for three
things: a module that it imports but torchvision no longer has, its ``.cuda()`` calls, and the checkpoints it writes.
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
"""Mean and std in the released code (docs/decisions/released-code.md), and those of the bundled digits."""

_TRAINED = {0: ["fc."], 1: ["layer4.2.", "fc."], 3: ["layer4.", "fc."], 9: ["layer3.", "layer4.", "fc."]}
"""Figure 9: name prefixes of the fine-tuned parameters."""


class Batches(Protocol):
    """A data loader: images N x 3 x H x W in [0, 1] and labels N. Passes may differ from each other."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...

    def __len__(self) -> int: ...


@contextmanager
def _robustness() -> Iterator[tuple[Any, Any, Any]]:
    """Provide the library's ``train``, ``attacker`` and ``imagenet_models``, on the CPU."""
    utils = ModuleType("torchvision.models.utils")
    vars(utils)["load_state_dict_from_url"] = torch.hub.load_state_dict_from_url
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own warning: apex is not installed
        patch.setitem(sys.modules, "torchvision.models.utils", utils)
        patch.setattr(nn.Module, "cuda", lambda self, *_, **__: self)
        patch.setattr(Tensor, "cuda", lambda self, *_, **__: self)
        patch.setattr(torch, "save", lambda *_, **__: None)
        from robustness import attacker, imagenet_models, train

        yield train, attacker, imagenet_models


def released_model(tensors: dict[str, Tensor], fc: nn.Linear, mean_and_std: str, blocks: int) -> nn.Module:
    """Return the library's ResNet-50 with a source's tensors and a trial's FC layer.

    It is frozen except for its last ``blocks`` and the FC layer.
    """
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
    """Return the ResNet inside a ``released_model``."""
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
    """Run the library's natural ``train_model`` with Table 3's momentum and weight decay, evaluating every epoch.

    Args:
        on_step: Called after every optimizer step with the ResNet, the images and the labels.
        on_epoch: Called with the library's log of the epoch.
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
