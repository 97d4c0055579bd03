"""The costs of a part of a network, counted on the part itself, for one image in float32 on the CPU."""

from collections.abc import Callable, Iterable
from typing import Any
from weakref import finalize

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from jobs.catalog.architecture_card import Part


def count(part: nn.Module, x: Tensor) -> tuple[Part, Tensor]:
    """Return the costs of a part, and its output.

    Args:
        x: the input for one image.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        out = part(x)
    costs = Part(
        flops=int(counter.get_total_flops()),
        input_gradient=_flops_trained(part, x, to_input=True) - _flops_trained(part, x, to_input=False),
        parameters=sum(p.numel() for p in part.parameters()),
        kept=_kept_for_backward(part, x),
        peak=_peak_of_forward(part, x),
        output=out.nbytes,
    )
    return costs, out.detach()


def _flops_trained(part: nn.Module, x: Tensor, *, to_input: bool) -> int:
    """Return the operations of one image's forward and backward pass, with or without the gradient of the input."""
    with FlopCounterMode(display=False) as counter:
        out = part(x.clone().requires_grad_(to_input))
        if out.requires_grad:
            out.sum().backward()
    return int(counter.get_total_flops())


def _kept_for_backward(part: nn.Module, x: Tensor) -> int:
    """Return the bytes that autograd keeps from one image's forward pass, without parameters."""
    parameters = {p.untyped_storage().data_ptr() for p in part.parameters()}
    kept: dict[int, int] = {}
    held: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)  # keep it alive, so that its address is not reused
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        part(x.clone().requires_grad_(True).mul(1.0))
    return sum(kept.values())


class Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch gives it no types
    """Tracks the bytes of all tensors that operations create, and the peak of their sum.

    Args:
        there: tensors that exist already; operations may return views of them.
    """

    def __init__(self, there: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no types
        self.there = {tensor.untyped_storage()._cdata for tensor in there}
        self.live: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            key = tensor.untyped_storage()._cdata if isinstance(tensor, Tensor) else None
            if key is not None and key not in self.live and key not in self.there:
                self.live[key] = tensor.untyped_storage().nbytes()
                finalize(tensor.untyped_storage(), self.live.pop, key, None)
        self.peak = max(self.peak, sum(self.live.values()))
        return out


def _peak_of_forward(part: nn.Module, x: Tensor) -> int:
    """Return the peak bytes of one image's forward pass without gradients, input included."""
    with torch.no_grad(), Allocations([x, *part.parameters(), *part.buffers()]) as allocations:
        part(x)
    peak: int = x.nbytes + allocations.peak
    return peak
