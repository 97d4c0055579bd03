"""The costs of a part of a network, counted on the part itself, for one image on the CPU."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import finalize

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from jobs.catalog.architecture_card import Part
from jobs.networks.arithmetic import mixed_precision


def count(part: nn.Module, x: Tensor, x_16: Tensor) -> tuple[Part, Tensor, Tensor]:
    """Return the costs of a part, and its output in float32 and in 16 bits.

    Args:
        x: the input for one image.
        x_16: the same as computed in 16 bits.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        out = part(x)
    flops, to_input = int(counter.get_total_flops()), _flops_trained(part, x, to_input=True)
    with mixed_precision("bfloat16", x.device), _layer_norms_in_float32(part):
        with torch.no_grad():
            out_16 = part(x_16)
        kept_16, peak_16 = _kept_for_backward(part, x_16), _peak_of_forward(part, x_16)
    costs = Part(
        flops=flops,
        input_gradient=to_input - _flops_trained(part, x, to_input=False),
        parameters=sum(p.numel() for p in part.parameters()),
        kept=_kept_for_backward(part, x),
        peak=_peak_of_forward(part, x),
        output=out.nbytes,
        kept_16=kept_16,
        peak_16=peak_16,
        output_16=out_16.nbytes,
    )
    return costs, out.detach(), out_16.detach()


@contextmanager
def _layer_norms_in_float32(part: nn.Module) -> Iterator[None]:
    """Compute layer norms in float32 within autocast, as on GPUs; on CPUs it computes them in the format they get."""
    norms = [module for module in part.modules() if isinstance(module, nn.LayerNorm)]
    hooks = [norm.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),)) for norm in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _flops_trained(part: nn.Module, x: Tensor, *, to_input: bool) -> int:
    """Return the operations of one image's forward and backward pass, with or without the gradient of the input."""
    with FlopCounterMode(display=False) as counter:
        out = part(x.clone().requires_grad_(to_input))
        if out.requires_grad:
            out.sum().backward()
    return int(counter.get_total_flops())


def _kept_for_backward(part: nn.Module, x: Tensor) -> int:
    """Return the bytes that autograd keeps from one image's forward pass, without parameters and the output."""
    kept: dict[int, int] = {}
    held: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in allocations.there:
            kept[storage._cdata] = storage.nbytes()
            held.append(tensor)  # keep it alive, so that its address is not reused
        return tensor

    with (
        Allocations([*part.parameters(), *part.buffers()]) as allocations,
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        out = part(x.clone().requires_grad_(True).mul(1.0))
    kept.pop(out.untyped_storage()._cdata, None)
    return sum(kept.values())


class Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch gives it no types
    """Tracks the bytes of all tensors that operations create, and the peak of their sum.

    Args:
        there: tensors that exist already; operations may return views of them. Their copies in another format are not
            counted either: autocast converts weights at each use.
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
        converted = func is torch.ops.aten._to_copy.default and args[0].untyped_storage()._cdata in self.there
        for tensor in tree_leaves(out):
            key = tensor.untyped_storage()._cdata if isinstance(tensor, Tensor) else None
            if key is None or key in self.live or key in self.there:
                continue
            if converted:
                self.there.add(key)
                finalize(tensor.untyped_storage(), self.there.discard, key)
            else:
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
