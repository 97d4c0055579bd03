"""Planned memory, compared with what a step of the network itself holds, in float32 and in 16 bits.

Tensors are torch's fake ones, which have shapes and no numbers: batches of 128 take seconds. Fake tensors of a GPU need
none, and go through the rules by which autocast chooses formats there.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from jobs.catalog.catalog import PACKAGED
from jobs.catalog.costs import activation_bytes, memory, parameters
from jobs.kinds.finetune.transfer import freeze
from jobs.networks.arithmetic import FORMATS, attention_by_matrix_products
from jobs.networks.builders import build
from jobs.networks.counting import Allocations
from jobs.networks.network import Network
from jobs.specs.optimizers import Execution, Precision

FAMILIES = (
    *("resnet50", "resnet35-w8", "densenet161", "vgg16_bn", "mobilenet_v2", "shufflenet_v2_x1_0", "convnext_tiny"),
    *("swin_t", "vit_b_16", "vit6-d64", "timm.efficientnet_b0", "timm.resnetv2_50", "timm.vit_small_patch16_224"),
)
"""An architecture of each class of networks."""
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "float16")
BATCH = 128
NETWORKS = pytest.mark.parametrize("name", FAMILIES)
BOTH = pytest.mark.parametrize("precision", ["float32", "bfloat16"])


def network_of(name: str, blocks: int) -> Network:
    """Return a network with 1,000 labels, like those whose costs are in cards."""
    network = Network(build(PACKAGED.architecture(name), 1000), (0.5,) * 3, (0.25,) * 3)
    freeze(network, blocks)
    return network


@contextmanager
def fake(network: Network, device: str, precision: Precision) -> Iterator[None]:
    """Make a network's tensors fake ones on a device, which this machine need not have, and compute in a precision."""
    with FakeTensorMode(), attention_by_matrix_products(), torch.device(device):
        for module in network.modules():
            for name, old in [*module._parameters.items()]:
                if old is not None:
                    module._parameters[name] = nn.Parameter(torch.empty(old.shape), requires_grad=old.requires_grad)
            for name, tensor in [*module._buffers.items()]:
                if tensor is not None:
                    module._buffers[name] = torch.empty(tensor.shape, dtype=tensor.dtype)
        network.draw_from(lambda _, shape: torch.rand(tuple(shape)))
        # torch.autocast refuses a device that is not there
        torch.set_autocast_cache_enabled(False)
        torch.set_autocast_dtype(device, FORMATS.get(precision, torch.bfloat16))
        torch.set_autocast_enabled(device, precision != "float32")
        try:
            yield
        finally:
            torch.set_autocast_enabled(device, False)
            torch.set_autocast_cache_enabled(True)


def images_of(name: str) -> torch.Tensor:
    size = PACKAGED.architecture(name).image_size
    return torch.empty(BATCH, 3, size, size)


def number_bytes(precision: Precision) -> int:
    return Execution(precision=precision).number_bytes


def saved_for_backward(name: str, blocks: int, precision: Precision) -> int:
    """Return the bytes that autograd saves on a GPU from a forward pass of a batch, besides the weights themselves."""
    network, saved, held = network_of(name, blocks).train(), dict[int, int](), list[torch.Tensor]()
    with fake(network, "cuda", precision):
        weights = {tensor.untyped_storage()._cdata for tensor in [*network.parameters(), *network.buffers()]}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in weights:
                saved[storage._cdata] = storage.nbytes()
                held.append(tensor)  # so that its address is not used again
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network(images_of(name))
    return sum(saved.values())


@NETWORKS
@BOTH
@pytest.mark.parametrize("blocks", [1, -1])
def test_planned_memory_of_a_step_is_what_autograd_saves(name: str, precision: Precision, blocks: int) -> None:
    """With weights, gradients and momentum. If most of the network is frozen, its forward pass may take more."""
    card = PACKAGED.architecture(name)
    trained, all_of_them = parameters(card, blocks), parameters(card)
    state = 4 * (all_of_them + 2 * trained)
    images = 4 * 3 * card.image_size**2
    saved = saved_for_backward(name, blocks, precision) + BATCH * images
    passing = max((part.stored(number_bytes(precision)).peak for part in card.split(blocks)[0]), default=0)
    expected = state + max(saved, BATCH * (images + passing))
    assert memory(card, [blocks], BATCH, 1, 1, number_bytes(precision)) == pytest.approx(expected, rel=0.15)


@NETWORKS
@BOTH
def test_planned_memory_of_evaluation_is_its_peak(name: str, precision: Precision) -> None:
    card, network = PACKAGED.architecture(name), network_of(name, 0).eval()
    with fake(network, "cuda", precision), torch.no_grad():
        images_NCHW = images_of(name)
        with Allocations([*network.parameters(), *network.buffers()]) as seen:
            network(images_NCHW)
        peak = images_NCHW.nbytes + seen.peak
    state = 4 * (parameters(card) + 2 * parameters(card, 0))
    planned = memory(card, [0], 1, BATCH, 1, number_bytes(precision))
    assert planned == pytest.approx(state + peak, rel=0.15)


@NETWORKS
@pytest.mark.parametrize("precision", PRECISIONS)
def test_planned_size_of_stored_activations_is_their_size(name: str, precision: Precision) -> None:
    card = PACKAGED.architecture(name)
    cuts = {blocks: len(card.blocks) - blocks for blocks in (0, 1, len(card.blocks) // 2)}
    network = network_of(name, 0).eval()
    with fake(network, "cuda", precision), torch.no_grad():
        for blocks, cut in cuts.items():
            stored = network.trunk(images_of(name), cut)
            assert activation_bytes(card, blocks, number_bytes(precision)) * BATCH == stored.nbytes
