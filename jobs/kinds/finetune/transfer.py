"""Prepare a source model for fine-tuning: freeze, re-initialize the last layer, normalize."""

from collections import Counter
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from jobs.catalog.architecture_card import Architecture
from jobs.catalog.catalog import PACKAGED, Catalog
from jobs.errors import Code, DamagedFile
from jobs.execution.seeding import Purpose, generator
from jobs.kinds.finetune.preprocessing import normalizer
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.models.weights import SourceWeights
from jobs.networks.builders import build, load_weights
from jobs.networks.drawing import DrawingLayer
from jobs.networks.network import Network, layers_with_statistics
from jobs.networks.parts import Parts
from jobs.specs.base import ALL


def transfer(spec: FinetuneSpec, weights: SourceWeights, catalog: Catalog = PACKAGED) -> Network:
    """Build a trial's initial network (paper, A.3): the source's weights, a fresh FC layer, the rest frozen.

    A randomly initialized source is drawn from the trial's seed, including its FC layer, regardless of ``fc_init``.

    Raises:
        DamagedFile: if the weights do not fit the source's architecture.
    """
    source, target = catalog.source(spec.source), catalog.dataset(spec.dataset)
    architecture, statistics = catalog.architecture(source.architecture), normalizer(spec.recipe, source, target)
    if source.random:
        drawn = build(architecture, target.labels, generator(spec.seed, Purpose.NETWORK_INIT))
        network = Network(drawn, *statistics)
    else:
        network = Network(with_weights(spec.source, architecture, weights), *statistics)
        network.replace_fc(_fresh_fc(architecture.features, target.labels, spec.recipe.fc_init, spec.seed))
    freeze(network, spec.blocks)
    return network


def with_weights(name: str, architecture: Architecture, weights: SourceWeights) -> Parts:
    """Build a network with these tensors, and as many labels as they have.

    Raises:
        DamagedFile: if they do not fit; ``name`` identifies them in the message.
    """
    try:
        parts = build(architecture, len(weights.tensors[f"{architecture.fc.modules}.bias"]))
        load_weights(parts, weights.tensors)
    except (KeyError, RuntimeError) as error:
        message = f"the weights of {name!r} do not fit a {architecture.name}: {error}. Fix: fetch or train them again"
        raise DamagedFile(Code.DAMAGED_WEIGHTS, message) from error
    return parts


def freeze(network: Network, blocks: int) -> None:
    """Make only the last ``blocks`` blocks, the tail and the FC layer require gradients; -1: everything; 0: only FC.

    Parameters that the network's builder fixed, such as positions by sines, stay fixed. Frozen layers that draw random
    numbers draw none. Otherwise frozen only means ``requires_grad=False``; the recipe decides what frozen BatchNorm
    layers do.
    """
    network.requires_grad_(blocks == ALL)
    for module in head_modules(network, blocks):
        module.requires_grad_(True)
    for name in network.fixed:
        network.model.get_parameter(name).requires_grad_(False)
    trained = {id(layer) for module in head_modules(network, blocks) for layer in module.modules()}
    for layer in network.model.modules():
        if isinstance(layer, DrawingLayer):
            layer.frozen = id(layer) not in trained


def head_modules(network: Network, blocks: int) -> list[nn.Module]:
    """Return the fine-tuned modules: the last ``blocks`` blocks (Figure 9), the tail and the FC layer.

    For 0, only the FC layer; for -1, everything.
    """
    if blocks == ALL:
        return [network.model]
    return [*network.blocks[len(network.blocks) - blocks :], *([network.tail] if blocks else []), network.fc]


def set_training_modes(network: Network, spec: FinetuneSpec) -> None:
    """Set training modes as in the recipe's ``frozen_batchnorm``; the head is always in training mode.

    Called before each batch. Modes are only ever set for whole parts, so those of the blocks, stem, tail and FC
    layer show whether anything has to change, without a walk over all modules.
    """
    frozen = spec.recipe.frozen_batchnorm == "batch"
    head = head_modules(network, spec.blocks)
    trunk = [] if spec.blocks == ALL else network.trunk_modules(len(network.blocks) - spec.blocks)
    if all(module.training for module in head) and all(module.training == frozen for module in trunk):
        return
    network.train(frozen)
    for module in head:
        module.train()


@torch.no_grad()
def calibrate(network: Network, blocks: int, batches_NCHW: Iterable[Tensor]) -> None:
    """Set the running statistics of frozen layers to those of these images, averaged equally over the batches.

    These are the layers of BatchNorm, and of InstanceNorm if it has running statistics. In this pass they normalize by
    the statistics of the batch, as in training. The head is unchanged; with ``blocks`` -1, or without such layers,
    there is nothing to calibrate.
    """
    if blocks == ALL:
        return
    trunk = nn.Sequential(*network.trunk_modules(len(network.blocks) - blocks))
    layers = layers_with_statistics(trunk)
    if not layers:
        return
    passes = Counter[_NormBase]()

    def weigh(layer: _NormBase, _: object) -> None:
        passes[layer] += 1
        layer.momentum = 1 / passes[layer]

    momenta = [layer.momentum for layer in layers]
    hooks = [layer.register_forward_pre_hook(weigh) for layer in layers]
    trunk.train()
    for layer in layers:
        layer.reset_running_stats()
    try:
        with network.in_its_precision():
            for images_NCHW in batches_NCHW:
                trunk(network.normalized(images_NCHW))
    finally:
        for layer, momentum, hook in zip(layers, momenta, hooks, strict=True):
            layer.momentum = momentum
            hook.remove()


def _fresh_fc(inputs: int, labels: int, init: Literal["normal", "default"], seed: int) -> nn.Linear:
    """Draw an FC layer from the seed alone, so that it is the same for every source and every ``blocks``."""
    layer = nn.Linear(inputs, labels, device="meta").to_empty(device="cpu")  # without drawing from the global generator
    rng = generator(seed, Purpose.FC_INIT)
    bound = inputs**-0.5
    with torch.no_grad():
        if init == "normal":
            layer.weight.normal_(generator=rng)
            layer.bias.zero_()
        else:
            layer.weight.uniform_(-bound, bound, generator=rng)
            layer.bias.uniform_(-bound, bound, generator=rng)
    return layer
