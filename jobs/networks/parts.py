"""A network as parts that run one after another, which defines "the last k blocks".

stem, blocks, tail and fc: the stem is everything before the first block; the tail is everything between the last block
and the last linear layer ``fc`` (norms, pooling, further layers), and returns features N x D. What stands between two
blocks, such as a layer that reduces the resolution, belongs to the later one.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from torch import nn

from jobs.errors import Code, InvalidRequest


class Parts(NamedTuple):
    """A network and its parts.

    The parts are built from modules and parameters of the network itself, and together contain all of them. Weights
    have the names that ``model.state_dict()`` gives them.
    """

    model: nn.Module
    """The whole network; its forward pass maps normalized images N x 3 x H x W to logits N x K."""
    stem: nn.Module
    blocks: tuple[nn.Module, ...]
    tail: nn.Module
    """Returns features N x D."""
    fc: str
    """Module path of the last layer in the network, an ``nn.Linear`` from D features to K labels."""
    builder: str = ""
    """What built it, with the versions of packages whose code it may be, and the sha256 of its file if it has one;
    set by ``jobs.networks.builders``."""


def in_order(
    steps: Iterable[nn.Module], blocks: Sequence[nn.Module]
) -> tuple[nn.Module, tuple[nn.Module, ...], nn.Module]:
    """Divide modules that run one after another into stem, blocks and tail.

    Args:
        steps: all modules up to ``fc``, in the order in which they run.
        blocks: those of them that are blocks.
    """
    waiting: list[nn.Module] = []
    found: list[list[nn.Module]] = []
    last = len(blocks)
    known = {id(block) for block in blocks}
    stem: list[nn.Module] | None = None
    for step in steps:
        waiting.append(step)
        if id(step) not in known:
            continue
        if stem is None:
            stem, waiting = waiting[:-1], waiting[-1:]
        found.append(waiting)
        waiting = []
    assert stem is not None, "there is no block"
    assert len(found) == last, "a block is not among the steps"
    return _one(stem), tuple(map(_one, found)), _one(waiting)


def _one(modules: list[nn.Module]) -> nn.Module:
    return modules[0] if len(modules) == 1 else nn.Sequential(*modules)


def own_parts(model: nn.Module) -> Parts | None:
    """Return the parts of a network that has them under these names: ``stem``, ``blocks``, ``tail`` and ``fc``.

    Its forward pass is that of these four, one after another. None if it has not all of them.

    Raises:
        InvalidRequest: if it has them, but they are no modules.
    """
    if not all(hasattr(model, name) for name in ("stem", "blocks", "tail", "fc")):
        return None
    blocks = model.blocks
    if not isinstance(blocks, nn.ModuleList | nn.Sequential):
        raise _not_parts(f"a {type(model).__name__}", "blocks in an nn.Sequential or nn.ModuleList", blocks)
    stem: Any = model.stem  # nn.Module's attributes may be tensors, too
    tail: Any = model.tail
    return checked(Parts(model, stem, tuple(blocks), tail, "fc"))


def checked(parts: Parts) -> Parts:
    """Return the parts that a builder made, with the blocks as a tuple.

    Raises:
        InvalidRequest: if they are no modules, or there is no block.
    """
    what = f"a {type(parts.model).__name__}"
    made: Any = parts  # by a user's code, so of any type
    if isinstance(made.blocks, nn.Module) and not isinstance(made.blocks, nn.ModuleList | nn.Sequential):
        raise _not_parts(what, "a tuple of blocks", made.blocks)
    try:
        blocks = tuple(made.blocks)
    except TypeError as error:
        raise _not_parts(what, "a tuple of blocks", made.blocks) from error
    if not blocks:
        raise _not_parts(what, "at least one block", None)
    modules = [("model", made.model), ("stem", made.stem), *(("block", block) for block in blocks), ("tail", made.tail)]
    for name, module in modules:
        if not isinstance(module, nn.Module):
            raise _not_parts(what, f"a module (torch.nn.Module) as {name}", module)
    if not isinstance(made.fc, str):
        raise _not_parts(what, "the module path of the last layer as fc", made.fc)
    return parts._replace(blocks=blocks)


def _not_parts(what: str, expected: str, found: object) -> InvalidRequest:
    got = "none" if found is None else f"a {type(found).__name__}"
    return InvalidRequest(
        Code.UNUSABLE_NETWORK,
        f"expected {expected} of {what}; got {got}. Fix: correct the builder",
        key="builder",
    )


def require_linear(parts: Parts, what: str) -> None:
    """Require that ``fc`` is a linear layer with a bias.

    Raises:
        InvalidRequest: naming the layer and its type; ``what`` names the network.
    """
    try:
        layer = parts.model.get_submodule(parts.fc)
    except AttributeError as error:
        raise InvalidRequest(
            Code.UNUSABLE_NETWORK,
            f"expected the module path of the last layer of {what}; it has no module {parts.fc!r}. Fix: correct fc of "
            "the returned Parts",
            key=parts.fc,
        ) from error
    if type(layer) is not nn.Linear or layer.bias is None:
        found = f"a {type(layer).__name__}" + ("" if type(layer) is not nn.Linear else " without a bias")
        raise InvalidRequest(
            Code.UNUSABLE_NETWORK,
            f"expected the last layer of {what} to be a linear layer with a bias (torch.nn.Linear), because trials "
            f"replace it by one; got {found} ({parts.fc}). Fix: let the builder return a network with such a layer",
            key=parts.fc,
        )
    if layer._forward_hooks or layer._forward_pre_hooks:
        raise InvalidRequest(
            Code.UNUSABLE_NETWORK,
            f"expected the last layer of {what} without hooks, because trials replace it by a new one; {parts.fc} has "
            "some (torch.nn.utils.weight_norm registers one). Fix: let the builder return a network without them",
            key=parts.fc,
        )
