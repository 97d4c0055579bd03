"""Training a source model from random initialisation: naturally, by PGD, or with Gaussian noise.

Equations (1) to (5) of the paper; the hyper-parameters of A.10 are the recipe's defaults.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jobs import registry
from jobs.attacks import draw_noise, perturb
from jobs.batches import batch_indices, in_order, to_input
from jobs.checks import require_possible
from jobs.crops import random_resized_crops
from jobs.data.datasets import Dataset, ImageSet, load_dataset
from jobs.evaluation import Tally, evaluate
from jobs.frequencies import Band
from jobs.networks import BUILDERS, Network, initialise
from jobs.numerics import memory_format, numerics
from jobs.randomness import Purpose, generator
from jobs.replicas import ALONE, Replicas, replicas_of
from jobs.specs import Constraint, PretrainSpec, Sgd, ThreatModel
from jobs.training import Training
from jobs.trial import Pin

_ATTACK_STEPS = 20  # PGD(20), the attack the paper trains with (A.2)


class PretrainEvaluation(NamedTuple):
    """The numbers after one epoch. Accuracies in percent, losses in nats, time in seconds.

    Training accuracy and loss are on perturbed images. Adversarial accuracy is measured once, after the last epoch:
    under PGD(20) in the ball that the source was trained in.
    """

    epoch: int
    learning_rate: float
    train_accuracy: float
    train_loss: float
    test_accuracy: float
    test_loss: float
    adversarial_accuracy: float | None
    seconds: float


class Pretraining(Training[PretrainSpec, PretrainEvaluation]):
    """The making of a source model in progress: minimise the mean worst-case loss, equation (2)."""

    evaluation = PretrainEvaluation

    def __init__(self, spec: PretrainSpec, data: Dataset, device: torch.device, replicas: Replicas = ALONE) -> None:
        """Set the trial to its start.

        Args:
            data: the spec's dataset at the architecture's image size.
            replicas: those that share its batches; by default others are started when it advances, if the recipe
                says so.
        """
        self.data = data
        self.replicas = replicas
        super().__init__(spec, build(spec), device)

    @property
    def pins(self) -> tuple[Pin, ...]:
        own = registry.own_digests([], [self.spec.dataset])
        return (Pin("datasets", self.spec.dataset, self.data.sha256), *(Pin(*one) for one in own))

    @property
    def facts(self) -> Mapping[str, object]:
        return {
            "images_used": len(self.data.train.labels_N),
            "test_images": len(self.data.test.labels_N),
            "dataset_sha256": self.data.sha256,
        }

    def advance(self, pause: Callable[[], bool] = lambda: False) -> None:
        """As ``Training.advance``; several replicas live for one call, and follow this one's pauses."""
        if self.spec.recipe.replicas == 1 or self.replicas is not ALONE:
            super().advance(pause)
            return
        with replicas_of(self.spec, self.device) as self.replicas:
            self.replicas.bring_together(self)
            super().advance(lambda: self.replicas.agree(pause()))
        self.replicas = ALONE

    def _batches_of(self, epoch: int) -> list[Tensor]:
        return batch_indices(len(self.data.train.labels_N), self.spec.recipe.batch_size, self.spec.seed, epoch)

    def _train_batch(self, indices: Tensor) -> None:
        """One step. Each replica does its part of the batch; what is drawn does not depend on how many there are."""
        spec, form = self.spec, memory_format(self.spec.recipe)
        part = self.replicas.part_of(len(indices))
        x_NCHW = to_input(self._augmented(indices)[part.images], self.device, form)
        labels_N = self.data.train.labels_N[indices][part.images].to(self.device)
        rng = generator(spec.seed, Purpose.PERTURBATION, self.epoch, self.batch)
        noise = draw_noise(spec.threat, (len(indices), *x_NCHW.shape[1:]), rng)
        # As in the robustness library, the attack sees the network in evaluation mode.
        self.network.eval()
        x_NCHW = perturb(self.network, x_NCHW, labels_N, spec.threat, None if noise is None else noise[part.images])
        self.network.train()
        self.optimizer.zero_grad()
        logits_NK = self.network(x_NCHW.contiguous(memory_format=form))
        loss = nn.functional.cross_entropy(logits_NK, labels_N)
        loss.backward()  # type: ignore[no-untyped-call]
        self.replicas.average(self.network, part.weight)
        self.optimizer.step()
        tally = Tally()
        if part.weight:
            tally.add(logits_NK.detach(), labels_N, loss.detach())
        self.tally.include(self.replicas.total(tally))

    def _augmented(self, indices: Tensor) -> Tensor:
        images_NCHW = self.data.train.images_NCHW[indices]
        if self.spec.recipe.transforms == "none":
            return images_NCHW
        rng = generator(self.spec.seed, Purpose.AUGMENTATION, self.epoch, self.batch)
        return random_resized_crops(images_NCHW, rng)

    def _evaluate_epoch(self) -> PretrainEvaluation | None:
        if not self.replicas.leading:
            return None
        recipe, form = self.spec.recipe, memory_format(self.spec.recipe)
        test = evaluate(self.network, in_order(self.data.test, recipe.evaluation_batch_size, self.device, form))
        threat = self.spec.threat
        attack = attack_in(threat.constraint, threat.epsilon, threat.band) if self.epoch == self.spec.epochs else None
        return PretrainEvaluation(
            epoch=self.epoch,
            learning_rate=self.learning_rate,
            train_accuracy=self.tally.accuracy_percent,
            train_loss=self.tally.mean_loss,
            test_accuracy=test.accuracy_percent,
            test_loss=test.mean_loss,
            adversarial_accuracy=adversarial_accuracy(self.network, self.data.test, attack, recipe, self.device)
            if attack
            else None,
            seconds=0.0,
        )


def build(spec: PretrainSpec) -> Network:
    """The network before its first step: initialised from the seed, normalised as its dataset's card says."""
    card = registry.dataset(spec.dataset)
    with torch.random.fork_rng(devices=[]):  # the builder draws weights that are not used
        resnet = BUILDERS[spec.architecture](card.labels)
    initialise(resnet, generator(spec.seed, Purpose.NETWORK_INIT))
    return Network(resnet, *card.channel_statistics())


def open_pretraining(spec: PretrainSpec, device: torch.device) -> Pretraining:
    """Load what a trial needs and set it to its start.

    Raises:
        InvalidRequest: when the trial cannot exist.
        MissingData, DamagedFile: when its images are not on this machine, or not what they should be.
    """
    require_possible(spec)
    return Pretraining(spec, load_dataset(spec.dataset, registry.architecture(spec.architecture).image_size), device)


def attack_in(constraint: Constraint, epsilon: float, band: Band | None = None) -> ThreatModel | None:
    """PGD(20) in the ball of a constraint (Gaussian noise is projected on an L2 ball); None for no ball."""
    if constraint is Constraint.NONE:
        return None
    ball = Constraint.L2 if constraint is Constraint.GAUSSIAN else constraint
    return ThreatModel(constraint=ball, epsilon=epsilon, steps=_ATTACK_STEPS, band=band)


def adversarial_accuracy(
    network: Network, images: ImageSet, threat: ThreatModel, recipe: Sgd, device: torch.device
) -> float:
    """Accuracy in percent on images attacked by ``threat`` (a random start draws from a fixed generator)."""
    form = memory_format(recipe)
    network.eval()

    def attacked() -> Iterator[tuple[Tensor, Tensor]]:
        batches = in_order(images, recipe.evaluation_batch_size, device, form)
        for number, (x_NCHW, labels_N) in enumerate(batches):
            noise = draw_noise(threat, tuple(x_NCHW.shape), generator(0, Purpose.PERTURBATION, number))
            with torch.enable_grad():
                moved_NCHW = perturb(network, x_NCHW, labels_N, threat, noise)
            # yielded outside: evaluation runs between, and a generator left behind must not hold the switch
            yield moved_NCHW, labels_N

    with numerics(recipe):
        return evaluate(network, attacked()).accuracy_percent
