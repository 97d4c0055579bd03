"""Turning a source model into a network to fine-tune: freeze, re-initialise the last layer, normalise."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torchvision.models.resnet import ResNet

from jobs import registry
from jobs.errors import Code, DamagedFile
from jobs.networks import BUILDERS, Network, initialise
from jobs.randomness import Purpose, generator
from jobs.recipes import normaliser
from jobs.specs import ALL, FinetuneSpec
from jobs.weights import SourceWeights


def transfer(spec: FinetuneSpec, weights: SourceWeights) -> Network:
    """The network at the start of a trial (paper, A.3): the source's weights, a fresh FC layer, the rest frozen.

    A randomly initialised source is drawn from the trial's seed, its FC layer too, whatever ``fc_init`` says.

    Raises:
        DamagedFile: when the weights do not fit the source's architecture.
    """
    source, target = registry.source(spec.source), registry.dataset(spec.dataset)
    with torch.random.fork_rng(devices=[]):  # builders draw weights that are not used
        if source.random:
            resnet = BUILDERS[source.architecture](target.labels)
            initialise(resnet, generator(spec.seed, Purpose.NETWORK_INIT))
        else:
            resnet = with_weights(spec.source, source.architecture, weights)
            resnet.fc = _fresh_fc(resnet.fc.in_features, target.labels, spec.recipe.fc_init, spec.seed)
    network = Network(resnet, *normaliser(spec.recipe, source, target))
    freeze(network, spec.blocks)
    return network


def with_weights(name: str, architecture: str, weights: SourceWeights) -> ResNet:
    """A network that holds these tensors.

    Raises:
        DamagedFile: when they do not fit; ``name`` says whose they are.
    """
    try:
        resnet = BUILDERS[architecture](len(weights.tensors["fc.bias"]))
        resnet.load_state_dict(weights.tensors)
    except (KeyError, RuntimeError) as error:
        message = f"the weights of {name!r} are not those of a {architecture}: {error}; fetch or train them again"
        raise DamagedFile(Code.DAMAGED_WEIGHTS, message) from error
    return resnet


def freeze(network: Network, blocks: int) -> None:
    """Let only the last ``blocks`` blocks and the FC layer require gradients; -1 lets everything.

    Frozen means ``requires_grad=False`` and no more: what frozen BatchNorm layers do is the recipe's.
    """
    for parameter in network.parameters():
        parameter.requires_grad_(blocks == ALL)
    for module in head_modules(network, blocks):
        module.requires_grad_(True)


def head_modules(network: Network, blocks: int) -> list[nn.Module]:
    """The fine-tuned modules: the last ``blocks`` blocks (Figure 9) and the FC layer; all of it for -1."""
    if blocks == ALL:
        return [network.resnet]
    return [*network.blocks[len(network.blocks) - blocks :], network.resnet.fc]


def set_training_modes(network: Network, spec: FinetuneSpec) -> None:
    """Training mode as the recipe's ``frozen_batchnorm`` says; the head is always in training mode.

    Asked before each batch: as modes are only ever set for whole blocks, those of the blocks, the stem and the FC layer
    tell if all are as they should be, without a walk over all modules. Blocks may be another network's, too, which has
    set theirs already (``adopt_trunk``).
    """
    frozen = spec.recipe.frozen_batchnorm == "batch"
    head = head_modules(network, spec.blocks)
    trunk = [] if spec.blocks == ALL else network.trunk_modules(len(network.blocks) - spec.blocks)
    if all(module.training for module in head) and all(module.training == frozen for module in trunk):
        return
    network.train(frozen)
    for module in head:
        module.train()


def calibrate(network: Network, blocks: int, batches_NCHW: Iterable[Tensor]) -> None:
    """Give the frozen BatchNorm layers the statistics of these images: the mean over the batches, each counted once.

    A layer's inputs are normalised by batch statistics on the way, as in training. The head is left alone; with
    ``blocks`` -1 there is nothing to calibrate.
    """
    if blocks == ALL:
        return
    trunk = nn.Sequential(*network.trunk_modules(len(network.blocks) - blocks))
    update_bn((network.normalised(images_NCHW) for images_NCHW in batches_NCHW), trunk)


def _fresh_fc(inputs: int, labels: int, init: Literal["normal", "default"], seed: int) -> nn.Linear:
    """An FC layer drawn from the seed alone, so that it is the same for every source and every ``blocks``."""
    layer = nn.Linear(inputs, labels, device="meta").to_empty(device="cpu")  # no draw from the global generator
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
