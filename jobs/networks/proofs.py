"""Proofs, on random images, that trials can use a network.

Its parts are the network, its weights decide what it computes, and what it computes can be reproduced.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jobs.catalog.builder_files import file_and_function
from jobs.errors import Code, InvalidRequest
from jobs.networks.builders import load_weights
from jobs.networks.drawing import DrawingLayer
from jobs.networks.made import unusable
from jobs.networks.network import Network
from jobs.networks.own_builders import last_line, line_in
from jobs.networks.parts import Parts
from jobs.networks.refused_operations import OperationsRefused

_IMAGES = 3
_SEED = 20_000_000
_CLOSE = 1e-3
"""Largest difference between equal activations in other batches, relative to the largest activation."""


def random_images(size: int) -> Tensor:
    """Return the images with which networks are examined."""
    return torch.randn(_IMAGES, 3, size, size, generator=torch.Generator().manual_seed(_SEED))


def fixed_numbers(_: str, shape: Sequence[int]) -> Tensor:
    """Return what layers that draw get while a network is examined: the same numbers every time."""
    return torch.rand(tuple(shape), generator=torch.Generator().manual_seed(_SEED))


def examined(parts: Parts) -> Network:
    """Return a network without a normalizer, whose layers that draw get fixed numbers."""
    network = Network(parts, (0.0,) * 3, (1.0,) * 3)
    network.draw_from(fixed_numbers)
    return network


def require_seeded(parts: Parts, again: Parts, other: Parts, what: str) -> None:
    """Require that weights follow from the seed.

    Args:
        again: a second network from the same seed.
        other: one from another seed.
    """
    second = again.model.state_dict()
    for name, tensor in parts.model.state_dict().items():
        if name not in second or not torch.equal(tensor, second[name]):
            raise unusable(
                f"expected {what} to draw weights from torch's generator, so that they follow from the seed; {name} "
                "differs in a second network from the same seed",
                "draw them with torch, on the CPU",
            )
    third = dict(other.model.named_parameters())
    mine = {name: p for name, p in parts.model.named_parameters() if not name.startswith(f"{parts.fc}.")}
    if mine and all(name in third and torch.equal(p, third[name]) for name, p in mine.items()):
        raise unusable(
            f"expected {what} to draw weights that follow from the seed; networks from two seeds have the same",
            "let it draw fresh weights, without a seed of its own (trials load those of the source's card)",
        )


def require_usable(parts: Parts, what: str, images_NCHW: Tensor, other: Parts) -> None:
    """Require that the parts are the network, that it can be reproduced, and that its parts share nothing.

    The network has its own weights afterwards.

    Args:
        what: names the network in messages.
        images_NCHW: normalized images.
        other: a network of the same builder from another seed; it gets the weights of the first.

    Raises:
        InvalidRequest: naming the first reason why trials could not use the network.
    """
    _require_division(parts, what)
    network = examined(parts)
    _require_modes(network, what)
    state = {name: tensor.detach().clone() for name, tensor in _tensors(parts.model)}
    with explained(what, images_NCHW.shape[-1]):
        for mode in (False, True):
            network.train(mode)
            with torch.no_grad(), _drawing_refused(parts.model, what), OperationsRefused(parts.model, what):
                whole_NK = parts.model(images_NCHW.clone())
                _restore(parts.model, state)
                divided_NK = network.fc(_steps(network, images_NCHW.clone(), what)[-1])
            _restore(parts.model, state)
            _require_equal(whole_NK, divided_NK, "training" if mode else "evaluation", what)
        _require_nothing_kept(examined(other), images_NCHW, what)
        _require_apart(network.eval(), images_NCHW, what)
        _require_no_other_state(network, other, images_NCHW, what)
        _restore(parts.model, state)
        _require_one_image(network.train(), images_NCHW[:1].clone(), what)
        _restore(parts.model, state)
        _require_drawn_once(network.train(), images_NCHW, what)
    _restore(parts.model, state)
    network.zero_grad()


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


@torch.no_grad()
def _restore(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    for name, tensor in _tensors(model):
        tensor.copy_(state[name])


def _require_modes(network: Network, what: str) -> None:
    """Require that the network has no rule of its own about which of its modules train, because trials set parts."""
    for mode in (True, False):
        network.model.train(mode)
        whole = {path: module.training for path, module in network.model.named_modules()}
        network.train(mode)
        for path, module in network.model.named_modules():
            if module.training != whole[path]:
                raise unusable(
                    f"expected {what} to set the mode of all its modules in train(); it sets that of {path} otherwise",
                    "leave out the network's own train(); a study's blocks and frozen_batchnorm say what is frozen",
                )


def _require_equal(whole_NK: object, divided_NK: Tensor, mode: str, what: str) -> None:
    if not isinstance(whole_NK, Tensor):
        raise unusable(f"expected logits from {what} as a tensor; got a {type(whole_NK).__name__} in {mode}")
    if whole_NK.shape != divided_NK.shape:
        raise unusable(
            f"expected logits of the shape that the parts of {what} return, {tuple(divided_NK.shape)}; got "
            f"{tuple(whole_NK.shape)} in {mode}"
        )
    if not whole_NK.isfinite().all():
        raise unusable(
            f"expected finite logits from {what}; with fresh weights and random images it has others in {mode}",
            "initialize its weights otherwise",
        )
    if not torch.equal(whole_NK, divided_NK):
        raise unusable(
            f"expected the parts of {what}, one after another, to compute what the network computes, bit for "
            f"bit; in {mode} their logits differ by up to {float((whole_NK - divided_NK).abs().max()):.3g}"
        )


def _names(network: Network) -> list[str]:
    """Return the names, in messages, of all parts up to the last layer."""
    blocks = len(network.blocks)
    return ["the stem", *(f"block {number} of {blocks}" for number in range(1, blocks + 1)), "the tail"]


def _steps(network: Network, x: Tensor, what: str) -> list[Tensor]:
    """Apply all parts up to the last layer, and return what each returns.

    Trials store activations by image and share them, so no block may change its input.
    """
    images, found = len(x), []
    for name, part in zip(_names(network), (network.stem, *network.blocks, network.tail), strict=True):
        given, version = x, x._version
        x = part(x)
        if not isinstance(x, Tensor):
            raise unusable(f"expected parts of {what} that return one tensor; {name} returns a {type(x).__name__}")
        if x.dtype is not torch.float32 or not x.ndim or len(x) != images:
            raise unusable(
                f"expected parts of {what} that return float32 activations with the images along the first dimension; "
                f"from {images} images {name} returns {tuple(x.shape)} in {x.dtype}"
            )
        if name.startswith("block") and given._version != version:
            raise unusable(
                f"expected blocks of {what} that leave their input as it is; {name} writes into it",
                "use inplace=False in its first layers",
            )
        found.append(x)
    return found


@torch.no_grad()
def _require_apart(network: Network, images_NCHW: Tensor, what: str) -> None:
    """Require that, in evaluation, what is computed of an image does not depend on the other images of its batch."""
    others_NCHW = torch.cat([images_NCHW[:1], 5 * images_NCHW[1:] + 3])
    steps = (_steps(network, batch_NCHW.clone(), what) for batch_NCHW in (images_NCHW, others_NCHW))
    for name, one, other in zip(_names(network), *steps, strict=True):
        if not torch.allclose(one[0], other[0], rtol=_CLOSE, atol=_CLOSE * float(one[0].abs().max())):
            raise unusable(
                f"expected {what} to compute, in evaluation, an image's activations from that image alone; those after "
                f"{name} depend on the other images of the batch",
                "use layers with running statistics (BatchNorm without track_running_stats=False), or that normalize "
                "each image",
            )


def _require_no_other_state(network: Network, other: Parts, images_NCHW: Tensor, what: str) -> None:
    """Require that a network from another seed computes the same with the same weights: they decide everything."""
    second = examined(other)
    second.replace_fc(nn.Linear(network.fc.in_features, network.fc.out_features))
    load_weights(other, network.model.state_dict())
    for mode in (False, True):
        with torch.no_grad():
            mine, theirs = network.train(mode)(images_NCHW), second.train(mode)(images_NCHW)
        if not torch.equal(mine, theirs):
            raise unusable(
                f"expected the weights of {what} (its state_dict) to decide what it computes; networks from two seeds "
                f"with the same weights differ in {'training' if mode else 'evaluation'}",
                "make what it draws in its constructor, or keeps between batches, a parameter or a persistent buffer",
            )


def _require_nothing_kept(network: Network, images_NCHW: Tensor, what: str) -> None:
    """Require that training uses nothing that an evaluation computed, because evaluations record no gradients.

    Args:
        network: has not run yet.
    """
    with torch.inference_mode():
        network.eval()(images_NCHW)
    try:
        network.train()(images_NCHW)
    except RuntimeError as error:
        if "inference tensor" not in str(error).lower():
            raise
        raise unusable(
            f"expected {what} to keep nothing from one batch to the next; it trains with a tensor that it computed in "
            "an evaluation before",
            "compute it anew in each forward pass, or make it a persistent buffer",
        ) from error


@torch.no_grad()
def _require_one_image(network: Network, image_NCHW: Tensor, what: str) -> None:
    """Require that the network trains on a batch of one image, as the last one of an epoch or a replica's part may be.

    BatchNorm does not if it gets one value per channel: that of the image.
    """
    x = image_NCHW
    for name, part in zip(_names(network), (network.stem, *network.blocks, network.tail), strict=True):
        try:
            x = part(x)
        except (ValueError, RuntimeError) as error:
            size = image_NCHW.shape[-1]
            raise unusable(
                f"expected {what} to train on a batch of one image, as the last one of an epoch may be, of {size} x "
                f"{size} pixels; got {last_line(error)} in {name}",
                "name a larger image size (--image-size), or use no BatchNorm where one value per channel is left, as "
                "after global pooling",
            ) from error


def _require_drawn_once(network: Network, images_NCHW: Tensor, what: str) -> None:
    """Require that the backward pass draws nothing: what it computes again would have other numbers."""
    drawn: list[str] = []

    def draw(path: str, shape: Sequence[int]) -> Tensor:
        drawn.append(path)
        return fixed_numbers(path, shape)

    network.draw_from(draw)
    logits_NK = network(images_NCHW)
    forward = len(drawn)
    if logits_NK.requires_grad:
        logits_NK.sum().backward()
    if len(drawn) > forward:
        raise unusable(
            f"expected {what} to draw random numbers only in its forward pass; {drawn[forward]} draws again in the "
            "backward pass",
            "build the network without torch.utils.checkpoint",
        )


@torch.no_grad()
def require_drawn_by_image(network: Network, what: str, size: int) -> None:
    """Require that what layers draw for a batch can be divided between replicas: the same number of rows per image.

    Args:
        network: of no other use afterwards.
        size: of its images, in pixels per side.

    Raises:
        InvalidRequest: naming a layer that draws otherwise, such as dropout of activations with tokens before images.
    """
    if not any(isinstance(module, DrawingLayer) for module in network.modules()):
        return
    of_two, of_three = _rows_drawn(network, random_images(size)[:2]), _rows_drawn(network, random_images(size)[:3])
    for (path, rows), (_, more) in zip(of_two, of_three, strict=True):
        if 3 * rows != 2 * more:
            raise InvalidRequest(
                Code.UNUSABLE_NETWORK,
                f"expected {what} to draw random numbers by image, so that replicas can share a batch; {path} draws "
                f"for {rows} rows of 2 images, and for {more} of 3. Fix: use replicas: 1, or let the images be the "
                "first dimension of its input",
                key="replicas",
            )


def _rows_drawn(network: Network, images_NCHW: Tensor) -> list[tuple[str, int]]:
    """Return the path of each layer that draws in training, and the first length of what it draws, in order."""
    drawn: list[tuple[str, int]] = []

    def draw(path: str, shape: Sequence[int]) -> Tensor:
        drawn.append((path, shape[0]))
        return fixed_numbers(path, shape)

    network.draw_from(draw)
    network.train()(images_NCHW)
    return drawn


@contextmanager
def explained(what: str, size: int) -> Iterator[None]:
    """Convert errors of a network that runs on images to one message, with the place in a builder file."""
    try:
        yield
    except (InvalidRequest, MemoryError):
        raise
    except Exception as error:
        named = file_and_function(what)
        line = None if named is None else line_in(error, named[0])
        place = f" ({named[0]}:{line})" if named and line else ""
        raise unusable(
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
            raise unusable(f"expected parts of {what} without common weights; {one} and {other} share some")
    belonging = set().union(*tensors.values())
    for name, tensor in (*parts.model.named_parameters(), *parts.model.named_buffers()):
        if id(tensor) not in belonging:
            raise unusable(f"expected every weight of {what} in one of its parts; {name} is in none")
    if count := len(belonging) - len({id(t) for t in (*parts.model.parameters(), *parts.model.buffers())}):
        raise unusable(f"expected the parts of {what} to have only its weights; they have {count} others")


@contextmanager
def _drawing_refused(model: nn.Module, what: str) -> Iterator[None]:
    """Refuse a network in which a layer draws from a global state: of torch, numpy or Python."""
    paths = {module: path for path, module in model.named_modules()}
    before: list[Tensor] = []
    drawing: list[str] = []

    def enter(*_: Any) -> None:
        before.append(torch.get_rng_state())

    def leave(module: nn.Module, *_: Any) -> None:
        if not torch.equal(before.pop(), torch.get_rng_state()):
            drawing.append(f"{paths[module] or 'the network'} ({type(module).__name__})")

    others = random.getstate(), str(np.random.get_state())
    hooks = [module.register_forward_pre_hook(enter) for module in paths]
    hooks += [module.register_forward_hook(leave) for module in paths]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    if others != (random.getstate(), str(np.random.get_state())):
        drawing.append("its code, by Python's or numpy's generator,")
    if drawing:  # the innermost is left first
        raise unusable(
            f"expected {what} to draw random numbers only in layers that DeltaSweep can seed (torch.nn.Dropout, "
            f"torchvision's StochasticDepth, timm's DropPath); {drawing[0]} draws others",
            "build the network without that layer, or with probability 0",
        )
