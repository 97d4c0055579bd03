"""Layers that draw random numbers in training: dropout and stochastic depth, with numbers that follow from the trial.

A network's own layers would draw from global state, so that a resumed or bundled trial would draw other numbers. They
are replaced by ``DrawingLayer``, which asks its trial for numbers by its path in the network; a trial derives them from
its seed, the epoch and the batch. Frozen layers do not draw.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from jobs.errors import Code, InvalidRequest
from jobs.networks.parts import Parts

Draw = Callable[[str, Sequence[int]], Tensor]
"""Maps the path of a layer and a shape to uniform numbers in [0, 1) of that shape, on the CPU. The first length of the
shape is the number of images.
"""


class DrawingLayer(nn.Module):
    """Set values of its input to 0 with probability ``p``, and divide the others by 1 - p, in training.

    Args:
        shared: number of last dimensions whose values are kept or set to 0 together: 0 for dropout of single values, 2
            for dropout of channels, all but the first for stochastic depth (``None``).
    """

    def __init__(self, path: str, p: float, shared: int | None, *, scale: bool = True) -> None:
        super().__init__()
        self.path = path
        self.p = p
        self.shared = shared
        self.scale = scale
        self.frozen = False
        """Whether the layer belongs to the frozen part of a network."""
        self.draw: Draw | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.frozen or self.p == 0:
            return x
        assert self.draw is not None, "a network draws only in a trial (Network.draw_from)"
        own = 1 if self.shared is None else x.ndim - self.shared
        shape = (*x.shape[:own], *[1] * (x.ndim - own))
        kept = (self.draw(self.path, shape) >= self.p).to(x.device, x.dtype)
        return x * (kept / (1 - self.p) if self.scale and self.p < 1 else kept)

    def extra_repr(self) -> str:
        return f"p={self.p}, path={self.path}"


def replace_drawing_layers(made: nn.Module | Parts) -> nn.Module | Parts:
    """Replace the layers of a network that would draw from global state, and return it with these replaced.

    Layers with probability 0 stay: they draw nothing. Layers that draw and are of no known type are found by
    ``jobs.networks.describe``.

    Args:
        made: a network, or its parts, which may contain its layers outside of its own modules.

    Raises:
        InvalidRequest: if stochastic depth would drop a whole batch together, which depends on how batches are divided.
    """
    model = made.model if isinstance(made, Parts) else made
    layers: dict[nn.Module, DrawingLayer] = {}
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if module not in layers and (layer := _replacement(path, module)) is not None:
            layers[module] = layer.train(module.training)
        if module in layers:
            model.set_submodule(path, layers[module])
    if not isinstance(made, Parts):
        return made
    return made._replace(
        stem=_with(layers, made.stem),
        blocks=tuple(_with(layers, block) for block in made.blocks),
        tail=_with(layers, made.tail),
    )


def _with(layers: dict[nn.Module, DrawingLayer], part: nn.Module) -> nn.Module:
    for path, module in list(part.named_modules()):
        if path and module in layers:
            part.set_submodule(path, layers[module])
    return layers.get(part, part)


def _replacement(path: str, module: nn.Module) -> DrawingLayer | None:
    match module:
        case nn.Dropout(p=p) if p > 0:
            return DrawingLayer(path, p, 0)
        case nn.Dropout1d(p=p) if p > 0:
            return DrawingLayer(path, p, 1)
        case nn.Dropout2d(p=p) if p > 0:
            return DrawingLayer(path, p, 2)
        case nn.Dropout3d(p=p) if p > 0:
            return DrawingLayer(path, p, 3)
        case StochasticDepth(p=p, mode=mode) if p > 0:
            if mode != "row":
                raise InvalidRequest(
                    Code.UNUSABLE_NETWORK,
                    f"expected stochastic depth to drop single images (mode row); got mode {mode} in {path}, which "
                    "drops whole batches. Fix: build the network with mode row",
                    key=path,
                )
            return DrawingLayer(path, p, None)
    if type(module).__name__ == "DropPath" and type(module).__module__.startswith("timm."):
        of_timm: Any = module
        return DrawingLayer(path, of_timm.drop_prob, None, scale=of_timm.scale_by_keep) if of_timm.drop_prob else None
    return None
