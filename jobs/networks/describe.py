"""Describe an architecture: prove that its parts are the network, and count what each costs.

``deltasweep models describe`` writes the result as a card (``jobs.catalog.architecture_card``).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from jobs.catalog.architecture_card import LABELS, Architecture, Place
from jobs.catalog.builder_files import file_and_function
from jobs.errors import Code, InvalidRequest
from jobs.networks.arithmetic import attention_by_matrix_products
from jobs.networks.builders import block_names, build, built
from jobs.networks.counting import count
from jobs.networks.network import Network
from jobs.networks.own_builders import last_line, line_in
from jobs.networks.parts import Parts

_IMAGES = 3
_SEED = 20_000_000

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


def describe(
    name: str, builder: str, image_size: int, code: str | None = None, say: Callable[[str], object] = lambda _: None
) -> Architecture:
    """Return the card of a builder's network.

    Args:
        name: of the architecture.
        image_size: in pixels per side.
        code: text of the builder's file, if it is in one.
        say: called with what is being done.

    Raises:
        InvalidRequest: if trials could not use the network; the message says why.
        MissingData: if the package that has the builder is not installed.
    """
    say(f"Building {builder}")
    parts = built(builder, LABELS, _SEED, code)
    _require_seeded(parts, built(builder, LABELS, _SEED, code), builder)
    with torch.random.fork_rng(devices=[]), attention_by_matrix_products():
        images_NCHW = _images(image_size)
        say(f"Comparing {len(parts.blocks)} blocks, one after another, with the whole network")
        require_usable(parts, builder, images_NCHW)
        with _explained(builder, image_size):
            return _counted(name, builder, image_size, parts, images_NCHW[:1], say)


def require_described(architecture: Architecture) -> None:
    """Require that an architecture's network is the one in its card, and that trials can use it.

    Raises:
        InvalidRequest: if not; the message says why.
        MissingData: if the package that has the builder is not installed.
    """
    parts = build(architecture, LABELS, torch.Generator().manual_seed(_SEED))
    with torch.random.fork_rng(devices=[]), attention_by_matrix_products():
        require_usable(parts, architecture.builder, _images(architecture.image_size))


def _images(size: int) -> Tensor:
    return torch.randn(_IMAGES, 3, size, size, generator=torch.Generator().manual_seed(_SEED))


def _require_seeded(parts: Parts, again: Parts, what: str) -> None:
    """Require that a second network from the same seed has the same weights."""
    other = again.model.state_dict()
    for name, tensor in parts.model.state_dict().items():
        if name not in other or not torch.equal(tensor, other[name]):
            raise _unusable(
                f"expected {what} to draw weights from torch's generator, so that they follow from the seed; {name} "
                "differs in a second network from the same seed",
                "draw them with torch, on the CPU",
            )


def require_usable(parts: Parts, what: str, images_NCHW: Tensor) -> None:
    """Require that the parts are the network, that it can be reproduced, and that its parts share nothing.

    Args:
        what: names the network in messages.
        images_NCHW: normalized images.

    Raises:
        InvalidRequest: naming the first reason why trials could not use the network.
    """
    _require_division(parts, what)
    network = Network(parts, (0.0,) * 3, (1.0,) * 3)
    network.draw_from(_fixed)
    for mode in (False, True):
        network.train(mode)
        with (
            _explained(what, images_NCHW.shape[-1]),
            torch.no_grad(),
            _drawing_refused(parts.model, what),
            _Refused(parts.model, what),
        ):
            whole_NK = parts.model(images_NCHW.clone())
            divided_NK = network.fc(_features(network, images_NCHW.clone(), what))
        if whole_NK.shape != (len(images_NCHW), network.fc.out_features):
            raise _unusable(
                f"expected logits of shape {(len(images_NCHW), network.fc.out_features)} from {what}; got "
                f"{tuple(whole_NK.shape)}"
            )
        if not torch.equal(whole_NK, divided_NK):
            raise _unusable(
                f"expected the parts of {what}, one after another, to compute what the network computes, bit for "
                f"bit; in {'training' if mode else 'evaluation'} their logits differ"
                + (
                    f" by up to {float((whole_NK - divided_NK).abs().max()):.3g}"
                    if whole_NK.shape == divided_NK.shape
                    else f" in shape: {tuple(divided_NK.shape)}, not {tuple(whole_NK.shape)}"
                )
            )


def _features(network: Network, x: Tensor, what: str) -> Tensor:
    """Apply all parts up to the last layer, and require that no block changes its input, which other trials use."""
    x = network.stem(x)
    for number, block in enumerate(network.blocks, 1):
        given, version = x, x._version
        x = block(x)
        if given._version != version:
            raise _unusable(
                f"expected blocks of {what} that leave their input as it is; block {number} of {len(network.blocks)} "
                "writes into it",
                "use inplace=False in its first layers",
            )
    features_ND: Tensor = network.tail(x)
    return features_ND


@contextmanager
def _explained(what: str, size: int) -> Iterator[None]:
    """Convert errors of a network that runs on images to one message, with the place in a builder file."""
    try:
        yield
    except (InvalidRequest, MemoryError):
        raise
    except Exception as error:
        named = file_and_function(what)
        line = None if named is None else line_in(error, named[0])
        place = f" ({named[0]}:{line})" if named and line else ""
        raise _unusable(
            f"expected {what} to run on images of {size} x {size} pixels; got {last_line(error)}{place}",
            "name the image size that it was made for (--image-size)" + (", or correct the file" if named else ""),
        ) from error


def _require_division(parts: Parts, what: str) -> None:
    """Require that every tensor of the network belongs to exactly one part."""
    named = {"the stem": parts.stem, "the tail": parts.tail, "the last layer": parts.model.get_submodule(parts.fc)}
    named |= {f"block {number} of {len(parts.blocks)}": block for number, block in enumerate(parts.blocks, 1)}
    tensors = {name: {id(t) for t in (*part.parameters(), *part.buffers())} for name, part in named.items()}
    for (one, mine), (other, theirs) in combinations(tensors.items(), 2):
        if mine & theirs:
            raise _unusable(f"expected parts of {what} without common weights; {one} and {other} share some")
    belonging = set().union(*tensors.values())
    for name, tensor in (*parts.model.named_parameters(), *parts.model.named_buffers()):
        if id(tensor) not in belonging:
            raise _unusable(f"expected every weight of {what} in one of its parts; {name} is in none")
    if count := len(belonging) - len({id(t) for t in (*parts.model.parameters(), *parts.model.buffers())}):
        raise _unusable(f"expected the parts of {what} to have only its weights; they have {count} others")


def _counted(
    name: str, builder: str, image_size: int, parts: Parts, image_NCHW: Tensor, say: Callable[[str], object]
) -> Architecture:
    network = Network(parts, (0.0,) * 3, (1.0,) * 3).train()
    network.draw_from(_fixed)
    x, counted = image_NCHW, []
    for number, part in enumerate((network.stem, *parts.blocks, network.tail), 1):
        say(f"Counting part {number} of {len(parts.blocks) + 2}")
        costs, x = count(part, x)
        counted.append(costs)
    last, _ = count(network.fc.eval(), x)
    stem, *blocks, tail = counted
    return Architecture(
        name=name,
        builder=builder,
        image_size=image_size,
        features=network.fc.in_features,
        stem=stem,
        blocks=tuple(
            Place(modules=modules, **costs.model_dump())
            for modules, costs in zip(block_names(parts), blocks, strict=True)
        ),
        tail=tail,
        fc=Place(modules=parts.fc, **last.model_dump()),
    )


def _fixed(path: str, shape: Sequence[int]) -> Tensor:
    return torch.rand(tuple(shape), generator=torch.Generator().manual_seed(len(path)))


@contextmanager
def _drawing_refused(model: nn.Module, what: str) -> Iterator[None]:
    """Refuse a network in which a layer draws from torch's global state."""
    paths = {module: path for path, module in model.named_modules()}
    before: list[Tensor] = []
    drawing: list[str] = []

    def enter(*_: Any) -> None:
        before.append(torch.get_rng_state())

    def leave(module: nn.Module, *_: Any) -> None:
        if not torch.equal(before.pop(), torch.get_rng_state()):
            drawing.append(f"{paths[module] or 'the network'} ({type(module).__name__})")

    hooks = [module.register_forward_pre_hook(enter) for module in paths]
    hooks += [module.register_forward_hook(leave) for module in paths]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    if drawing:  # the innermost is left first
        raise _unusable(
            f"expected {what} to draw random numbers only in layers that DeltaSweep can seed (torch.nn.Dropout, "
            f"torchvision's StochasticDepth, timm's DropPath); {drawing[0]} draws others",
            "build the network without that layer, or with probability 0",
        )


class _Refused(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch gives it no types
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
            raise _unusable(
                f"expected {self._what} to use only operations with a deterministic backward pass on CUDA; {name} in "
                f"{place or 'the network'} has none",
                "build the network with another operation in its place",
            )
        return func(*args, **(kwargs or {}))


def _unusable(message: str, remedy: str = "let the builder return a network that trials can use") -> InvalidRequest:
    return InvalidRequest(Code.UNUSABLE_NETWORK, f"{message}. Fix: {remedy}", key="builder")
