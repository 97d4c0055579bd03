"""Builders: from an architecture's card to a network with fresh weights."""

import importlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torchvision.models
from torch import Tensor, nn
from torchvision.models import ResNet

from jobs.catalog.architecture_card import Architecture
from jobs.catalog.builder_files import file_and_function, sha256_of
from jobs.errors import Code, InvalidRequest, MissingData
from jobs.networks.drawing import replace_drawing_layers
from jobs.networks.families import parts_of
from jobs.networks.made import ordinary, require_labels, settings_kept
from jobs.networks.own_builders import function_of, last_line
from jobs.networks.parts import Parts
from jobs.networks.small import resnet18_w16, resnet35_w8, vit6_d64
from jobs.provenance import packages
from jobs.system.commands import command
from jobs.system.telemetry import disable_telemetry

_OWN: dict[str, Callable[[int], nn.Module]] = {
    "resnet18-w16": resnet18_w16,
    "resnet35-w8": resnet35_w8,
    "vit6-d64": vit6_d64,
    "wide_resnet50_4": lambda labels: torchvision.models.resnet50(
        weights=None, num_classes=labels, width_per_group=256
    ),
}
"""Networks of this package: each maps the number of labels to a network."""

_BY_LAYER = ("deltasweep:", "torchvision:")
"""Builders whose ResNets are initialized by ``initialize``."""


def build(architecture: Architecture, labels: int, generator: torch.Generator | None = None) -> Parts:
    """Build a network with fresh weights. Changes no random state.

    Its layers that draw random numbers are replaced (``jobs.networks.drawing``).

    Args:
        generator: what the weights are drawn from; without it they are of no use but to be replaced. ResNets of
            torchvision and of this package are initialized layer by layer, every other network by its own constructor,
            also if a user's file or another package derives it from torchvision's ResNet.

    Raises:
        InvalidRequest: if the builder is unknown, the network is not the one that the card describes, or the user has
            not named the builder's file.
        MissingData: if the package that has the builder is not installed.
    """
    seed = None if generator is None else generator.initial_seed()
    parts = built(architecture.builder, labels, seed, architecture.code)
    if generator is not None and isinstance(parts.model, ResNet) and architecture.builder.startswith(_BY_LAYER):
        initialize(parts.model, generator)
    _require_described(parts, architecture)
    return parts


def _require_described(parts: Parts, architecture: Architecture) -> None:
    fc = parts.model.get_submodule(parts.fc)
    assert isinstance(fc, nn.Linear)
    found = (*block_names(parts), f"{parts.fc} with {fc.in_features} features")
    expected = (*architecture.block_names, f"{architecture.fc.modules} with {architecture.features} features")
    if found != expected:
        here, there = next(pair for pair in zip(found, expected, strict=False) if len({*pair}) == 2)
        raise InvalidRequest(
            Code.UNUSABLE_NETWORK,
            f"expected the {len(expected) - 1} blocks and the last layer of the card of {architecture.name!r}; "
            f"{architecture.builder} built a network with {len(found) - 1} blocks. The first that differs is {here}, "
            f"for {there} in the card. Fix: write the card again with: "
            f"{command('models', 'describe', architecture.builder)}",
            key=architecture.name,
        )


def built(builder: str, labels: int, seed: int | None = None, code: str | None = None) -> Parts:
    """Build a network by its builder alone.

    Args:
        builder: ``deltasweep:NAME``, ``torchvision:NAME``, ``timm:NAME`` or ``FILE.py:FUNCTION``.
        seed: of the random numbers that its constructor draws.
        code: text of the builder's file, if it is in one and the user has named it.

    Raises:
        InvalidRequest: if the builder is unknown, its file fails or was not named, or its network cannot be divided
            into parts.
        MissingData: if the package that has the builder is not installed.
    """
    with torch.random.fork_rng(devices=[]), settings_kept():
        make = _maker(builder, code)
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        made = _made(make, builder, labels)
    parts = parts_of(replace_drawing_layers(ordinary(made, builder)))
    require_labels(parts, labels, builder)
    # a user's file may import any package: of those that have networks, timm is the one that is known here
    libraries = ("torchvision", "timm") if code is not None or builder.startswith("timm:") else ("torchvision",)
    made_of = [f"{name} {packages().get(name)}" for name in libraries]
    return parts._replace(builder=", ".join([builder, *made_of, *([] if code is None else [sha256_of(code)])]))


def _made(make: Callable[[int], nn.Module | Parts], builder: str, labels: int) -> nn.Module | Parts:
    try:
        return make(labels)
    except (InvalidRequest, MemoryError):
        raise
    except Exception as error:
        raise InvalidRequest(
            Code.UNUSABLE_NETWORK,
            f"expected {builder} to build a network with {labels} labels; got {last_line(error)}. Fix: choose another "
            "builder",
            key="builder",
        ) from error


def _maker(builder: str, code: str | None) -> Callable[[int], nn.Module | Parts]:
    """Return a builder's function from the number of labels to a network."""
    if (named := file_and_function(builder)) is not None:
        if code is None:
            raise InvalidRequest(
                Code.MISSING_KEY,
                f"expected the file of the builder {builder}, whose code runs only if you name it. Fix: add --builder "
                f"{named[0]}, with the folder in which it is",
                file=named[0],
                key="--builder",
            )
        return function_of(*named, code)
    package, _, name = builder.partition(":")
    match package:
        case "deltasweep" if name in _OWN:
            return _OWN[name]
        case "torchvision" if name in torchvision.models.list_models(module=torchvision.models):
            return lambda labels: torchvision.models.get_model(name, weights=None, num_classes=labels)
        case "timm":
            timm = timm_package(builder)
            if timm.is_model(name):
                return lambda labels: timm.create_model(name, pretrained=False, num_classes=labels)
    raise InvalidRequest(
        Code.UNKNOWN_NAME,
        "expected a builder such as torchvision:resnet18 or timm:vit_small_patch16_224, whose name the package knows, "
        f"or my_net.py:build; got {builder!r}. Fix: look up the name with torchvision.models.list_models() or "
        "timm.list_models()",
        key="builder",
    )


def timm_package(wanted: str) -> Any:
    """Import timm, which only an extra installs.

    Args:
        wanted: the network or weights that are needed of it, for the message.

    Raises:
        MissingData: if it is not installed.
    """
    disable_telemetry()
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise MissingData(
            Code.UNUSABLE_PACKAGE,
            f"expected timm to be installed, which knows {wanted}; it is not. Fix: pip install 'deltasweep[timm]'",
            key="builder",
        ) from error


def load_weights(parts: Parts, tensors: Mapping[str, Tensor]) -> None:
    """Load the tensors of a network by name. Some networks (MNASNet) also need to know their state's version.

    Raises:
        RuntimeError: if names or shapes differ from those of the network.
    """
    state: Any = OrderedDict(tensors)
    own: Any = parts.model.state_dict()
    state._metadata = own._metadata
    parts.model.load_state_dict(state)


def block_names(parts: Parts) -> tuple[str, ...]:
    """Return the module paths of each block in the network, several joined by " + "."""
    paths = {id(module): path for path, module in parts.model.named_modules()}

    def names(module: nn.Module) -> list[str]:
        if id(module) in paths:
            return [paths[id(module)]]
        return [name for child in module.children() for name in names(child)]

    return tuple(" + ".join(names(block)) for block in parts.blocks)


def initialize(resnet: ResNet, generator: torch.Generator) -> None:
    """Initialize every weight as torchvision's ResNet does, drawing from ``generator`` instead of global state."""
    for module in resnet.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5  # torch's default for Linear: U(-1/sqrt(in), 1/sqrt(in))
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
