"""Training a source model from random initialisation: naturally, by PGD, or with Gaussian noise.

Equations (1) to (5) of the paper; the hyper-parameters of A.10 are the recipe's defaults.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jobs import registry
from jobs.attacks import perturb
from jobs.batches import batch_indices, in_order, to_input
from jobs.data.datasets import Dataset, ImageSet
from jobs.evaluation import Tally, evaluate
from jobs.networks import BUILDERS, Network, initialise
from jobs.numerics import memory_format, numerics
from jobs.optimizers import sgd
from jobs.randomness import Purpose, generator
from jobs.specs import PretrainSpec, Sgd, ThreatModel


class EpochReport(NamedTuple):
    """One epoch of pretraining. Training accuracy (percent) and loss (nats) are on perturbed images."""

    epoch: int
    learning_rate: float
    train_accuracy: float
    train_loss: float


def build(spec: PretrainSpec) -> Network:
    """The network before its first step: initialised from the seed, normalised as its dataset's card says."""
    card = registry.dataset(spec.dataset)
    with torch.random.fork_rng(devices=[]):  # the builder draws weights that are not used
        resnet = BUILDERS[spec.architecture](card.labels)
    initialise(resnet, generator(spec.seed, Purpose.NETWORK_INIT))
    return Network(resnet, *card.channel_statistics())


def pretrain(
    spec: PretrainSpec, data: Dataset, device: torch.device, on_epoch: Callable[[EpochReport], None] = lambda _: None
) -> Network:
    """Run the job: minimise the mean worst-case loss over the whole training set, equation (2).

    Args:
        data: the spec's dataset at the architecture's image size.
        on_epoch: called after every epoch.

    Returns:
        The trained network in evaluation mode, on ``device``.
    """
    recipe = spec.recipe
    with numerics(recipe):
        network = build(spec).to(device).to(memory_format=memory_format(recipe))
        optimizer = sgd(network, recipe)
        for epoch in range(1, spec.epochs + 1):
            learning_rate = recipe.learning_rate_at(epoch, spec.epochs)
            optimizer.param_groups[0]["lr"] = learning_rate
            tally = _train_epoch(spec, network, optimizer, data.train, device, epoch)
            on_epoch(EpochReport(epoch, learning_rate, tally.accuracy_percent, tally.mean_loss))
    return network.eval()


def adversarial_accuracy(
    network: Network, images: ImageSet, threat: ThreatModel, recipe: Sgd, device: torch.device
) -> float:
    """Accuracy in percent on images attacked by ``threat`` (no randomness: PGD starts at zero)."""
    form = memory_format(recipe)
    unused = generator(0, Purpose.PERTURBATION)
    network.eval()

    def attacked() -> Iterator[tuple[Tensor, Tensor]]:
        for x_NCHW, labels_N in in_order(images, recipe.evaluation_batch_size, device, form):
            with torch.enable_grad():
                moved_NCHW = perturb(network, x_NCHW, labels_N, threat, unused)
            # yielded outside: evaluation runs between, and a generator left behind must not hold the switch
            yield moved_NCHW, labels_N

    with numerics(recipe):
        return evaluate(network, attacked()).accuracy_percent


def _train_epoch(
    spec: PretrainSpec,
    network: Network,
    optimizer: torch.optim.SGD,
    train: ImageSet,
    device: torch.device,
    epoch: int,
) -> Tally:
    tally = Tally()
    form = memory_format(spec.recipe)
    batches = batch_indices(len(train.labels_N), spec.recipe.batch_size, spec.seed, epoch)
    for number, indices in enumerate(batches):
        x_NCHW = to_input(train.images_NCHW[indices], device, form)
        labels_N = train.labels_N[indices].to(device)
        # As in the robustness library, the attack sees the network in evaluation mode.
        network.eval()
        noise = generator(spec.seed, Purpose.PERTURBATION, epoch, number)
        x_NCHW = perturb(network, x_NCHW, labels_N, spec.threat, noise)
        network.train()
        optimizer.zero_grad()
        logits_NK = network(x_NCHW.contiguous(memory_format=form))
        loss = nn.functional.cross_entropy(logits_NK, labels_N)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        tally.add(logits_NK.detach(), labels_N, loss.detach())
    return tally
