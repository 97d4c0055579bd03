"""Count what every architecture costs, part by part, on the real networks, and write ``jobs/registry/costs.yaml``.

Usage: python scripts/count_costs.py
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import finalize

import torch
import yaml
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from jobs import registry
from jobs.networks import BUILDERS, Network

TABLE = Path(__file__).parent.parent / "jobs" / "registry" / "costs.yaml"
LABELS = 1000


def count(architecture: str) -> dict[str, Any]:
    """Stem, blocks and FC of an architecture, each with its costs (``jobs.registry.costs.Part``)."""
    size = registry.architecture(architecture).image_size
    network = Network(BUILDERS[architecture](LABELS), (0.0,) * 3, (1.0,) * 3).train()
    net = network.resnet
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    parts = []
    x_NCHW = torch.rand(1, 3, size, size)
    for module in [stem, *network.blocks]:
        part, x_NCHW = _part(module, x_NCHW)
        parts.append(part)
    features_ND = torch.flatten(net.avgpool(x_NCHW), 1)
    parts[-1]["output"] = features_ND.nbytes
    fc, _ = _part(net.fc.eval(), features_ND)
    return {"stem": parts[0], "blocks": parts[1:], "fc": fc}


def _part(module: nn.Module, x_NCHW: Tensor) -> tuple[dict[str, int], Tensor]:
    """Costs of a part for one image, and what it hands on."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        out = module(x_NCHW)
    costs = {
        "flops": int(counter.get_total_flops()),
        "input_gradient": _flops_trained(module, x_NCHW, to_input=True)
        - _flops_trained(module, x_NCHW, to_input=False),
        "parameters": sum(p.numel() for p in module.parameters()),
        "kept": _kept_for_backward(module, x_NCHW),
        "peak": _peak_of_forward(module, x_NCHW),
        "output": out.nbytes,
    }
    return costs, out.detach()


def _flops_trained(module: nn.Module, x_NCHW: Tensor, *, to_input: bool = False) -> int:
    """Operations of one image's forward and backward pass, with or without the gradient to the module's input."""
    with FlopCounterMode(display=False) as counter:
        module(x_NCHW.clone().requires_grad_(to_input)).sum().backward()
    return int(counter.get_total_flops())


def _kept_for_backward(module: nn.Module, x_NCHW: Tensor) -> int:
    """Bytes that autograd keeps of one image's forward pass, parameters not among them."""
    parameters = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept: dict[int, int] = {}
    held: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)  # alive, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(x_NCHW.clone().requires_grad_(True).mul(1.0))
    return sum(kept.values())


class _Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch gives it no types
    """Follows the bytes of all tensors that operations make, and their highest sum."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no types
        self.live: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and (key := tensor.untyped_storage()._cdata) not in self.live:
                self.live[key] = tensor.untyped_storage().nbytes()
                finalize(tensor.untyped_storage(), self.live.pop, key, None)
        self.peak = max(self.peak, sum(self.live.values()))
        return out


def _peak_of_forward(module: nn.Module, x_NCHW: Tensor) -> int:
    """The most bytes that one image's forward pass without gradients holds at once, input included."""
    with torch.no_grad(), _Allocations() as allocations:
        module(x_NCHW)
    peak: int = x_NCHW.nbytes + allocations.peak
    return peak


if __name__ == "__main__":
    table = {name: count(name) for name in registry.architectures()}
    TABLE.write_text("# Written by scripts/count_costs.py\n" + yaml.safe_dump(table, sort_keys=False))
