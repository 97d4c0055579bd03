"""Folded evaluation: BatchNorm layers with fixed statistics are multiplied into the convolutions before them.

A BatchNorm layer in evaluation mode is an affine map per channel. Where its input is the output of a convolution that
nothing else uses, both are one convolution with other weights and a bias. Other BatchNorm layers stay as they are.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode

_ATTRIBUTES = frozenset({"device", "dtype", "is_cpu", "is_cuda", "layout", "ndim", "requires_grad", "shape"})
_METHODS = frozenset({"__len__", "dim", "is_contiguous", "is_floating_point", "numel", "size", "stride"})
"""Attributes and methods of a tensor that tell nothing of its numbers."""


class Fold(NamedTuple):
    """A convolution and the BatchNorm layer that follows it, by their tensors, which training changes in place."""

    weight: Tensor
    bias: Tensor | None
    mean: Tensor
    variance: Tensor
    scale: Tensor | None
    shift: Tensor | None
    eps: float


def folds_of(parts: Sequence[nn.Module], x: Tensor) -> tuple[Fold, ...]:
    """Return the convolutions that can be folded, as seen in one forward pass in evaluation mode.

    What a part returns counts as used: trials store it and share it, so it must be what the part computes unfolded.

    Args:
        parts: applied one after another.
        x: input of the first part; one image is enough.
    """
    seen = _Uses({id(tensor) for part in parts for tensor in (*part.parameters(), *part.buffers())})
    with torch.no_grad(), seen:
        for part in parts:
            x = part(x)
            seen.returned(x)
    return seen.folds()


def folded(folds: Sequence[Fold]) -> AbstractContextManager[Any]:
    """Return a context in which the convolutions of ``folds`` are computed folded, and their BatchNorm layers not.

    Weights are folded when first used, from the tensors' values at that time, so a context must not include training.
    """
    return _Folded(folds) if folds else nullcontext()


class _Folded(TorchFunctionMode):
    """Replaces the convolutions of folds, and passes over the BatchNorm layers that follow them."""

    def __init__(self, folds: Iterable[Fold]) -> None:
        super().__init__()
        self._by_weight = {id(fold.weight): fold for fold in folds}
        self._by_mean = {id(fold.mean): fold for fold in self._by_weight.values()}
        self._made: dict[int, tuple[Tensor, Tensor]] = {}
        self._pending: dict[int, Tensor] = {}
        """Outputs of folded convolutions, by ``id`` of the running mean of the layer that must take each."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if func is nn.functional.conv2d and (
            fold := self._by_weight.get(id((given := _conv2d(*args, **named)).weight))
        ):
            if given.bias is not fold.bias:
                raise _changed("a convolution got another bias than when it was folded")
            weight, bias = self._made.get(id(fold.weight)) or self._make(fold, given.x)
            y = nn.functional.conv2d(given.x, weight, bias, *given.others, **given.named)
            self._pending[id(fold.mean)] = y
            return y
        if func is nn.functional.batch_norm and (
            fold := self._by_mean.get(id((norm := _batch_norm(*args, **named)).mean))
        ):
            if self._pending.pop(id(fold.mean), None) is not norm.x:
                raise _changed("a BatchNorm layer got another input than the convolution that is folded with it")
            if not norm.is_of(fold):
                raise _changed("a BatchNorm layer got other parameters than when it was folded")
            return norm.x
        return func(*args, **named)

    def __exit__(self, error: Any, *others: Any) -> None:
        super().__exit__(error, *others)  # type: ignore[no-untyped-call]  # torch gives it no types
        if error is None and self._pending:
            raise _changed("the output of a folded convolution did not reach its BatchNorm layer")

    def _make(self, fold: Fold, x: Tensor) -> tuple[Tensor, Tensor]:
        """Fold the weights in float32, and convert them to the format in which the convolution computes."""
        weight, bias = fuse_conv_bn_weights(
            fold.weight, fold.bias, fold.mean, fold.variance, fold.eps, fold.scale, fold.shift
        )
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        self._made[id(fold.weight)] = made = weight.detach().to(dtype), bias.detach().to(dtype)
        return made


def _changed(what: str) -> RuntimeError:
    return RuntimeError(
        f"expected the network to compute the same operations, with the same tensors, for every batch; {what}. "
        "Fix: use evaluation: plain"
    )


class _Convolution(NamedTuple):
    x: Tensor
    weight: Tensor
    bias: Tensor | None
    others: tuple[Any, ...]
    named: dict[str, Any]


def _conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, *others: Any, **named: Any) -> _Convolution:
    """Name the arguments of a call of ``torch.nn.functional.conv2d``."""
    return _Convolution(input, weight, bias, others, named)


class _Normalization(NamedTuple):
    x: Tensor
    mean: Tensor | None
    variance: Tensor | None
    scale: Tensor | None
    shift: Tensor | None
    training: bool
    eps: float

    def is_of(self, fold: Fold) -> bool:
        """Return whether the layer has the tensors that were seen when it was folded."""
        same = self.mean is fold.mean and self.variance is fold.variance
        return same and self.scale is fold.scale and self.shift is fold.shift and self.eps == fold.eps


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> _Normalization:
    """Name the arguments of a call of ``torch.nn.functional.batch_norm``."""
    return _Normalization(input, running_mean, running_var, weight, bias, training, eps)


class _Uses(TorchFunctionMode):
    """Records which convolutions' outputs only a BatchNorm layer uses."""

    def __init__(self, held: set[int]) -> None:
        """Record the convolutions and layers whose tensors the parts hold, by ``id``.

        A tensor that is computed anew for each batch is another one each time, so it cannot be folded once for all.
        """
        super().__init__()
        self._held = held
        self._layers: Counter[int] = Counter()
        """How often a running mean was used, by ``id``."""
        self._outputs: list[tuple[Tensor, _Convolution]] = []
        self._uses: dict[int, list[_Normalization | None]] = {}
        """What used each output; None for anything but a BatchNorm layer with running statistics."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        by = _batch_norm(*args, **named) if func is nn.functional.batch_norm else None
        if by is not None:
            self._layers[id(by.mean)] += 1
            if by.training or by.mean is None or by.variance is None:
                by = None
        if not _only_asks(func):
            for tensor in _tensors((args, named)):
                if id(tensor) in self._uses:
                    self._uses[id(tensor)].append(by)
        y = func(*args, **named)
        if func is nn.functional.conv2d and isinstance(y, Tensor):
            convolution = _conv2d(*args, **named)
            self._outputs.append((y, convolution))  # kept, so that no other tensor gets its id
            self._uses[id(y)] = []
        return y

    def returned(self, y: Tensor) -> None:
        """Record that a part returned a tensor."""
        if id(y) in self._uses:
            self._uses[id(y)].append(None)

    def folds(self) -> tuple[Fold, ...]:
        """Return the folds: convolutions that run once, each followed by a BatchNorm layer that runs once."""
        calls = Counter(id(convolution.weight) for _, convolution in self._outputs)
        found = []
        for y, made in self._outputs:
            match self._uses[id(y)]:
                case [_Normalization(x, mean, variance) as by] if calls[id(made.weight)] == 1 and x is y:
                    if mean is not None and variance is not None and self._layers[id(mean)] == 1:
                        found.append(Fold(made.weight, made.bias, mean, variance, by.scale, by.shift, by.eps))
        return tuple(fold for fold in found if all(id(each) in self._held for each in fold if isinstance(each, Tensor)))


def _only_asks(func: Any) -> bool:
    """Return whether a call only asks for the form of a tensor."""
    name = getattr(func, "__name__", "")
    return func.__self__.__name__ in _ATTRIBUTES if name == "__get__" else name in _METHODS


def _tensors(values: Any) -> Iterable[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        yield from _tensors(tuple(values.values()))
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors(value)
