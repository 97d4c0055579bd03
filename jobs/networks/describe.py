"""Describe an architecture: prove that its parts are the network, and count what each costs.

``deltasweep models describe`` writes the result as a card (``jobs.catalog.architecture_card``).
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from jobs.catalog.architecture_card import LABELS, Architecture, Place
from jobs.catalog.catalog import Catalog
from jobs.networks.arithmetic import attention_by_matrix_products
from jobs.networks.builders import block_names, build, built
from jobs.networks.counting import count
from jobs.networks.network import layers_with_statistics
from jobs.networks.parts import Parts
from jobs.networks.proofs import examined, explained, random_images, require_seeded, require_usable

_SEED = 20_000_000


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
    other = built(builder, LABELS + 1, _SEED + 1, code)  # of another size, so that none has always the same
    require_seeded(parts, built(builder, LABELS, _SEED, code), other, builder)
    with torch.random.fork_rng(devices=[]), attention_by_matrix_products():
        images_NCHW = random_images(image_size)
        say(f"Comparing {len(parts.blocks)} blocks, one after another, with the whole network")
        require_usable(parts, builder, images_NCHW, other)
        with explained(builder, image_size):
            return _counted(name, builder, image_size, parts, images_NCHW[:1], say)


def require_own_described(names: Iterable[str], catalog: Catalog) -> None:
    """Require the same of those of these architectures that a study itself defines (``require_described``)."""
    for name in set(names) & catalog.own.architectures.keys():
        require_described(catalog.architecture(name))


def require_described(architecture: Architecture) -> None:
    """Require that an architecture's network is the one in its card, and that trials can use it.

    Raises:
        InvalidRequest: if not; the message says why.
        MissingData: if the package that has the builder is not installed.
    """
    parts = build(architecture, LABELS, torch.Generator().manual_seed(_SEED))
    other = build(architecture, LABELS + 1, torch.Generator().manual_seed(_SEED + 1))
    with torch.random.fork_rng(devices=[]), attention_by_matrix_products():
        require_usable(parts, architecture.builder, random_images(architecture.image_size), other)


def _counted(
    name: str, builder: str, image_size: int, parts: Parts, image_NCHW: Tensor, say: Callable[[str], object]
) -> Architecture:
    network = examined(parts).train()
    x, x_16, counted = image_NCHW, image_NCHW, []
    for number, part in enumerate((network.stem, *parts.blocks, network.tail), 1):
        say(f"Counting part {number} of {len(parts.blocks) + 2}")
        costs, x, x_16 = count(part, x, x_16)
        counted.append(costs)
    last, *_ = count(network.fc.eval(), x, x_16)
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
        running_statistics=bool(layers_with_statistics(parts.model)),
    )
