"""Files with the tensor names of older versions of torchvision, compared with torchvision's own loaders."""

import re
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import DenseNet, VisionTransformer
from torchvision.models.densenet import _load_state_dict

from jobs.models.older_names import with_current_names


def a_densenet() -> nn.Module:
    network: nn.Module = DenseNet(growth_rate=2, block_config=(2, 1), num_init_features=4, num_classes=3)
    return network


def a_vit() -> nn.Module:
    network: nn.Module = VisionTransformer(8, 4, num_layers=2, num_heads=1, hidden_dim=4, mlp_dim=6, num_classes=3)
    return network


def older(key: str) -> str:
    """Return the name that older versions wrote."""
    key = re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key)
    return re.sub(r"mlp\.([03])\.", lambda match: f"mlp.linear_{1 + int(match[1]) // 3}.", key)


class Published:
    """What torchvision's loader of DenseNets asks: weights of version 0.3 or older, without batch counters."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def get_state_dict(self, **_: object) -> dict[str, Tensor]:
        return dict(self.state)


def without_counters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}


def test_a_densenet_is_read_as_torchvision_reads_it() -> None:
    state = without_counters(a_densenet().state_dict())
    old = {older(key): tensor for key, tensor in state.items()}
    assert old.keys() != state.keys()
    loaded = a_densenet()
    _load_state_dict(loaded, Published(old), progress=False)
    found, expected = with_current_names(old, state), without_counters(loaded.state_dict())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


def test_a_vit_is_read_as_torchvision_reads_it() -> None:
    state = a_vit().state_dict()
    old = {older(key): tensor for key, tensor in state.items()}
    assert old.keys() != state.keys()
    loaded = a_vit()
    loaded.load_state_dict(dict(old))
    found = with_current_names(old, state)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in loaded.state_dict().items())


@pytest.mark.parametrize("make", [a_densenet, a_vit])
def test_under_a_prefix_and_with_the_names_of_today(make: Callable[[], nn.Module]) -> None:
    state = make().state_dict()
    assert with_current_names(state, state) == state
    old = {f"module.{older(key)}": tensor for key, tensor in state.items()}
    assert with_current_names(old, state).keys() == {f"module.{key}" for key in state}


def test_other_networks_are_left_alone() -> None:
    theirs = {"encoder_layer_0.mlp.linear_1.weight": 1, "denselayer1.norm.1.weight": 2}
    assert with_current_names(theirs, theirs) == theirs
