"""Folded evaluation: which BatchNorm layers are multiplied into a convolution, and that the result is the same map."""

import copy
from collections.abc import Callable
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.utils import fuse_conv_bn_weights

from jobs.execution.metrics import evaluating
from jobs.networks.folding import folded, folds_of
from tests.jobs.networks.shrunk import ALL, opened, spec_of

CHANNELS = 4
NetT = TypeVar("NetT", bound=nn.Module)


def drawn(network: NetT) -> NetT:
    """Draw all parameters and statistics, so that no BatchNorm layer is near the identity."""
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=rng) + 0.5)
    network.eval()
    return network


class Net(nn.Module):
    """Two convolutions, two BatchNorm layers, and a forward pass of choice."""

    def __init__(self, forward: "Callable[[Net, Tensor], Tensor]") -> None:
        super().__init__()
        self.first = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.second = nn.Conv2d(CHANNELS, CHANNELS, 3, groups=2, bias=False)
        self.norm = nn.BatchNorm2d(CHANNELS)
        self.other_norm = nn.BatchNorm2d(CHANNELS, affine=False)
        self.unfixed = nn.BatchNorm2d(CHANNELS, track_running_stats=False)
        self.scale = nn.Parameter(torch.ones(1))
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def both(net: Net, x: Tensor) -> Tensor:
    y: Tensor = net.other_norm(net.second(net.norm(net.first(x)).relu_()))
    return y


def functional(net: Net, x: Tensor) -> Tensor:
    y = nn.functional.conv2d(bias=net.first.bias, weight=net.first.weight, input=x, padding="same")
    assert y.dim() == 4
    assert y.shape[1] == CHANNELS
    norm = net.norm
    y = nn.functional.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=0.1)
    return nn.functional.batch_norm(
        net.second(y), running_mean=net.other_norm.running_mean, running_var=net.other_norm.running_var
    )


def branches(net: Net, x: Tensor) -> Tensor:
    """Both convolutions run before either BatchNorm layer, and these in the other order."""
    first, second = net.first(x), net.second(x[:, [0, 1, 2, 0]])
    y: Tensor = net.other_norm(second) + net.norm(first)[..., 1:-1, 1:-1]
    return y


def normalized(x: Tensor, norm: nn.BatchNorm2d, **others: Tensor) -> Tensor:
    """Apply a layer with other tensors than its own."""
    names = ("running_mean", "running_var", "weight", "bias")
    return nn.functional.batch_norm(x, **{name: getattr(norm, name) for name in names} | others)


IMAGES_NCHW = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("forward", [both, functional, branches])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_same_map(forward: Callable[[Net, Tensor], Tensor], memory_format: torch.memory_format) -> None:
    net = drawn(Net(forward)).to(memory_format=memory_format)
    folds = folds_of([net], IMAGES_NCHW[:1])
    assert len(folds) == 2
    plain = net(IMAGES_NCHW)
    with torch.inference_mode(), folded(folds):
        fast = net(IMAGES_NCHW)
    torch.testing.assert_close(fast, plain)
    assert not torch.equal(fast, plain)  # so it was computed in another order


@pytest.mark.parametrize(
    ("forward", "count"),
    [
        (lambda net, x: net.norm(net.first(x)) + net.other_norm(net.first(x)), 0),
        (lambda net, x: (y := net.first(x)) + net.norm(y), 0),
        (lambda net, x: net.norm(y := net.first(x)) * y.mean(), 0),
        (lambda net, x: net.norm(y := net.first(x)) * y.data, 0),
        (lambda net, x: net.norm(torch.stack([net.first(x)])[0]), 0),
        (lambda net, x: net.norm(net.first(x).mul_(2)), 0),
        (lambda net, x: net.norm(net.first(x).relu()), 0),
        (lambda net, x: net.unfixed(net.first(x)), 0),
        (lambda net, x: net.norm(net.second(net.norm(net.first(x)))), 0),
        (lambda net, x: net.norm(nn.functional.conv2d(x, net.first.weight * net.scale)), 0),
        (lambda net, x: net.norm(x[:, [0, 1, 2, 0]]), 0),
        (lambda net, x: net.norm(net.norm(net.first(x)).relu()), 0),
        (lambda net, x: net.norm(nn.functional.conv2d(x, net.first.weight, net.first.bias * net.scale)), 0),
        (lambda net, x: normalized(net.first(x), net.norm, weight=net.norm.weight * net.scale), 0),
        (lambda net, x: normalized(net.first(x), net.norm, bias=net.norm.bias * net.scale), 0),
        (lambda net, x: normalized(net.first(x), net.norm, running_mean=net.norm.running_mean.clone()), 0),
        (lambda net, x: normalized(net.first(x), net.norm, running_var=net.norm.running_var.clone()), 0),
    ],
    ids=[
        "convolution used twice",
        "output used before",
        "output used after",
        "output's data used after",
        "output in a list",
        "output changed in place",
        "something between",
        "statistics of the batch",
        "layer used twice",
        "weights computed",
        "no convolution",
        "layer used twice, once elsewhere",
        "bias computed",
        "layer's weights computed",
        "layer's bias computed",
        "mean computed",
        "variance computed",
    ],
)
def test_what_is_not_folded(forward: Callable[[Net, Tensor], Tensor], count: int) -> None:
    net = drawn(Net(forward))
    folds = folds_of([net], IMAGES_NCHW[:1])
    assert len(folds) == count
    with torch.no_grad(), folded(folds):
        fast = net(IMAGES_NCHW)
    torch.testing.assert_close(fast, net(IMAGES_NCHW))


def test_what_a_part_returns_is_not_folded() -> None:
    """A trial stores it, and applies a BatchNorm layer of the next part to it; so do other trials of its bundle."""
    first, norm = drawn(nn.Conv2d(3, CHANNELS, 3)), drawn(nn.BatchNorm2d(CHANNELS))
    assert len(folds_of([nn.Sequential(first, norm)], IMAGES_NCHW[:1])) == 1
    assert folds_of([first, norm], IMAGES_NCHW[:1]) == ()


def test_a_network_that_computes_something_else_than_when_it_was_folded() -> None:
    net = drawn(Net(lambda net, x: net.norm(net.first(x) if len(x) == 1 else net.first(x) + 1)))
    folds = folds_of([net], IMAGES_NCHW[:1])
    with torch.no_grad(), folded(folds), pytest.raises(RuntimeError, match="another input"):
        net(IMAGES_NCHW)


@pytest.mark.parametrize("path", ["first.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"])
def test_a_network_whose_tensors_are_replaced_after_it_was_folded(path: str) -> None:
    net = drawn(Net(both))
    folds = folds_of([net], IMAGES_NCHW[:1])
    owner, name = path.split(".")
    setattr(getattr(net, owner), name, copy.deepcopy(getattr(getattr(net, owner), name)))
    with pytest.raises(RuntimeError, match="with the same tensors"), torch.no_grad(), folded(folds):
        net(IMAGES_NCHW)


def test_weights_are_those_of_the_moment() -> None:
    """Training changes weights and statistics in place; each context folds them anew."""
    net = drawn(Net(both))
    folds = folds_of([net], IMAGES_NCHW[:1])
    with torch.no_grad():
        net.first.weight.mul_(-2)
        net.norm.running_mean.add_(1)  # type: ignore[union-attr]  # it tracks statistics
        with folded(folds):
            fast = net(IMAGES_NCHW)
        torch.testing.assert_close(fast, net(IMAGES_NCHW))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_weights_are_folded_in_float32_before_they_are_rounded(precision: str) -> None:
    net = drawn(Net(lambda net, x: net.norm(net.first(x))))
    dtype = getattr(torch, precision)
    conv, norm = net.first, net.norm
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias)
    with torch.no_grad(), torch.autocast("cpu", dtype, cache_enabled=False):
        expected = nn.functional.conv2d(IMAGES_NCHW, weight.to(dtype), bias.to(dtype), padding=1)
        folds = folds_of([net], IMAGES_NCHW[:1])
        with folded(folds):
            assert torch.equal(net(IMAGES_NCHW), expected)


@pytest.mark.parametrize("name", ALL)
def test_every_packaged_architecture(name: str) -> None:
    """Of torchvision's and our ResNets, torch's own tool folds the same layers."""
    trial = opened(name, spec_of(name, 0, {"evaluation": "folded"}))
    images_NCHW = trial.test_images(slice(0, 2))
    network = trial.network
    folds = trial.folds()
    with evaluating(network), torch.inference_mode():
        plain = network(images_NCHW)
        with folded(folds):
            fast = network(images_NCHW)
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4 * float(plain.abs().max()))
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert (len(folds) > 0) == (len(norms) > 0)
    if "resne" in name and "timm" not in name:
        assert len(folds) == len(norms)
        fused = fuse(network.model.eval())
        assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
