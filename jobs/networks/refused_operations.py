"""Operations that no network may use, because their backward pass is not deterministic on CUDA."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from jobs.networks.made import unusable

_NOT_DETERMINISTIC = (
    "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool3d",
    "cumsum",
    "fractional_max_pool2d",
    "fractional_max_pool3d",
    "grid_sampler_2d",
    "grid_sampler_3d",
    "max_pool3d_with_indices",
    "max_unpool2d",
    "max_unpool3d",
    "reflection_pad1d",
    "reflection_pad2d",
    "reflection_pad3d",
    "replication_pad1d",
    "replication_pad2d",
    "replication_pad3d",
    "upsample_bicubic2d",
    "upsample_bilinear2d",
    "upsample_linear1d",
    "upsample_trilinear3d",
)
"""Operations whose backward pass has no deterministic implementation on CUDA (documentation of
``torch.use_deterministic_algorithms`` in torch 2.14, read in November 2026). Adaptive average pooling to one value per
channel is a mean, which is deterministic.
"""


class OperationsRefused(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch gives it no types
    """Refuses operations whose backward pass is not deterministic on CUDA, and names the module that runs them."""

    def __init__(self, model: nn.Module, what: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no types
        self._what = what
        self._running: list[str] = []
        self._hooks = [
            hook
            for path, module in model.named_modules()
            for hook in (
                module.register_forward_pre_hook(lambda *_, path=path: self._running.append(path)),
                module.register_forward_hook(lambda *_: self._left()),
            )
        ]

    def _left(self) -> None:
        self._running.pop()

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)  # type: ignore[no-untyped-call]  # torch gives it no types
        for hook in self._hooks:
            hook.remove()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = str(getattr(func, "_overloadpacket", func)).rpartition(".")[2]
        if name in _NOT_DETERMINISTIC:
            place = self._running[-1] if self._running else ""
            raise unusable(
                f"expected {self._what} to use only operations with a deterministic backward pass on CUDA; {name} in "
                f"{place or 'the network'} has none",
                "build the network with another operation in its place",
            )
        return func(*args, **(kwargs or {}))
