"""Layers that draw random numbers in training: dropout and stochastic depth, with numbers that follow from the trial.

A network's own layers would draw from global state, so that a resumed or bundled trial would draw other numbers. They
are replaced by ``DrawingLayer``, which asks its trial for numbers by its path in the network; a trial derives them from
its seed, the epoch, the batch, and how often the layer drew before in this batch, because a network may use one layer
in several places (both branches of a block of Swin). Frozen layers do not draw.
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
        own: maps the number of dimensions of an input to the number of first ones along which values are kept or set
            to 0 apart: all for dropout of single values, 1 (images) for stochastic depth.
    """

    def __init__(self, path: str, p: float, own: Callable[[int], int], *, scale: bool = True) -> None:
        super().__init__()
        self.path = path
        self.p = p
        self.own = own
        self.scale = scale
        self.frozen = False
        """Whether the layer belongs to the frozen part of a network."""
        self.draw: Draw | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.frozen or self.p == 0:
            return x
        assert self.draw is not None, "a network draws only in a trial (Network.draw_from)"
        own = self.own(x.ndim)
        shape = (*x.shape[:own], *[1] * (x.ndim - own))
        kept = (self.draw(self.path, shape) >= self.p).to(x.device, x.dtype)
        return x * (kept / (1 - self.p) if self.scale and self.p < 1 else kept)

    def extra_repr(self) -> str:
        return f"p={self.p}, path={self.path}"


_DROPOUT: tuple[tuple[type[Any], Callable[[int], int]], ...] = (
    (nn.Dropout, lambda dimensions: dimensions),
    (nn.Dropout1d, lambda dimensions: 2 if dimensions == 3 else 1),
    (nn.Dropout2d, lambda dimensions: 2),
    (nn.Dropout3d, lambda dimensions: 2 if dimensions == 5 else 1),
)
"""Dropout of single values and of channels. As in torch, inputs of other dimensions have no images before channels."""


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
    """Return what replaces a layer; None for a layer that draws nothing, and for a derived one that computes another
    thing.
    """
    layer: Any = module
    for kind, own in _DROPOUT:
        if type(layer).forward is kind.forward:
            return DrawingLayer(path, layer.p, own) if layer.p > 0 else None
    if type(layer).forward is StochasticDepth.forward and layer.p > 0:
        if layer.mode != "row":
            raise InvalidRequest(
                Code.UNUSABLE_NETWORK,
                f"expected stochastic depth to drop single images (mode row); got mode {layer.mode} in {path}, which "
                "drops whole batches. Fix: build the network with mode row",
                key=path,
            )
        return DrawingLayer(path, layer.p, _by_image)
    if type(layer).__name__ == "DropPath" and type(layer).__module__.startswith("timm."):
        return DrawingLayer(path, layer.drop_prob, _by_image, scale=layer.scale_by_keep) if layer.drop_prob else None
    return None


def _by_image(_: int) -> int:
    return 1
