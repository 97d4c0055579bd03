"""Train a source model from random initialization: naturally, by PGD, or with Gaussian noise.

Equations (1) to (5) of the paper; the recipe's defaults are the hyper-parameters of A.10.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from jobs.catalog.catalog import PACKAGED, Catalog
from jobs.data.batches import batch_indices, in_order, to_device, to_input
from jobs.data.datasets import Dataset, ImageSet, load_dataset
from jobs.data.device_images import kept_on
from jobs.data.random_resized_crop import random_resized_crops
from jobs.execution.determinism import deterministic, memory_format
from jobs.execution.gpu_memory import refusals
from jobs.execution.metrics import RunningMetrics, evaluate, evaluating
from jobs.execution.seeding import Purpose, generator
from jobs.execution.trial import Pin
from jobs.kinds.pretrain.data_parallel import ALONE, Replicas, SharedData, replicas_of
from jobs.kinds.pretrain.spec import PretrainSpec
from jobs.kinds.training.trial import Training
from jobs.networks.builders import build
from jobs.networks.network import Network
from jobs.networks.proofs import require_drawn_by_image
from jobs.perturbations.fourier import Band
from jobs.perturbations.pgd import draw_noise, perturb
from jobs.results import Store
from jobs.specs.optimizers import TrainingRecipe
from jobs.specs.threat_model import Constraint, ThreatModel

_ATTACK_STEPS = 20  # PGD(20), the attack the paper trains with (A.2)


class PretrainEvaluation(NamedTuple):
    """The numbers after one epoch: accuracies in percent, losses in nats, time in seconds.

    Training accuracy and loss are those of perturbed images. Adversarial accuracy is measured once, after the last
    epoch: under PGD(20) in the ball in which the source was trained.
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
    """Training of a source model in progress: minimizes the mean worst-case loss, equation (2)."""

    evaluation = PretrainEvaluation

    def __init__(
        self,
        spec: PretrainSpec,
        data: Dataset,
        device: torch.device,
        catalog: Catalog = PACKAGED,
        replicas: Replicas = ALONE,
        directory: Path | None = None,
    ) -> None:
        """Set the trial to its start.

        Args:
            data: the spec's dataset at the architecture's image size.
            replicas: this process's place among the replicas; by default, ``advance`` starts the others if the recipe
                has several.
            directory: the folder from which ``data`` was loaded, and from which other replicas load it; default: this
                machine's data directory.
        """
        self.catalog = catalog
        self.data = data
        self.replicas = replicas
        self.directory = directory
        if spec.recipe.replicas > 1:
            size = catalog.architecture(spec.architecture).image_size
            require_drawn_by_image(initial_network(spec, catalog), spec.architecture, size)
        super().__init__(spec, initial_network(spec, catalog), device)

    @classmethod
    def open(cls, store: Store, spec: PretrainSpec, catalog: Catalog, device: torch.device) -> Self:
        return cls.load(spec, catalog, device)

    @classmethod
    def load(cls, spec: PretrainSpec, catalog: Catalog, device: torch.device, directory: Path | None = None) -> Self:
        """Load what a trial needs, like ``open``, but without a results root; the dataset from ``directory``."""
        size = catalog.architecture(spec.architecture).image_size
        data = load_dataset(catalog.dataset(spec.dataset), size, directory)
        # random resized crops are computed on the processor, from images there
        kept = kept_on(device, data, train=spec.recipe.transforms == "none")
        return cls(spec, kept, device, catalog, directory=directory)

    @property
    def pins(self) -> tuple[Pin, ...]:
        own = self.catalog.own_digests([], [self.spec.dataset], [self.spec.architecture])
        return (Pin("datasets", self.spec.dataset, self.data.sha256), *(Pin(*own_pin) for own_pin in own))

    @property
    def facts(self) -> Mapping[str, object]:
        return {
            "images_used": len(self.data.train.labels_N),
            "test_images": len(self.data.test.labels_N),
            "dataset_sha256": self.data.sha256,
        }

    def advance(self, pause: Callable[[], bool] = lambda: False) -> None:
        """Run like ``Trial.advance``. Other replicas exist only during a call, and pause when this one does."""
        if self.spec.recipe.replicas == 1 or self.replicas is not ALONE:
            super().advance(pause)
            return
        data = SharedData(self.directory, self.data.sha256)
        with replicas_of(self.spec, self.catalog, self.device, data) as self.replicas:
            self.replicas.bring_together(self)
            super().advance(lambda: self.replicas.agree(pause()))
        self.replicas = ALONE

    def _batches_of(self, epoch: int) -> list[Tensor]:
        return batch_indices(len(self.data.train.labels_N), self.spec.recipe.batch_size, self.spec.seed, epoch)

    def _train_batch(self, indices: Tensor) -> None:
        """Take one step. Each replica processes its part of the batch; random draws do not depend on their number."""
        spec, form = self.spec, memory_format(self.spec.recipe)
        part = self.replicas.part_of(len(indices))
        x_NCHW = to_input(self._augmented(indices)[part.images], self.device, form)
        labels_N = to_device(self.data.train.labels_N[indices][part.images], self.device)
        rng = generator(spec.seed, Purpose.PERTURBATION, self.epoch, self.batch)
        noise = draw_noise(spec.threat, (len(indices), *x_NCHW.shape[1:]), rng)
        # As in the robustness library, the attack sees the network in evaluation mode.
        self.network.eval()
        x_NCHW = perturb(self.network, x_NCHW, labels_N, spec.threat, None if noise is None else noise[part.images])
        self.network.train()
        self.optimizer.zero_grad()
        logits_NK = self.network(x_NCHW.contiguous(memory_format=form))
        loss = nn.functional.cross_entropy(logits_NK, labels_N)
        self.loss_scale.scaled(loss).backward()  # type: ignore[no-untyped-call]
        self.replicas.average(self.network, part.weight)
        self.loss_scale.step(self.optimizer)
        tally = self.tally if self.replicas.count == 1 else RunningMetrics()
        if part.weight:
            tally.add(logits_NK.detach(), labels_N, loss.detach())
        if tally is not self.tally:
            self.tally.include(self.replicas.total(tally, self.device))

    def _uniform(self, path: str, shape: Sequence[int]) -> Tensor:
        """Draw for the whole batch and return this replica's part, so that numbers do not depend on their number.

        A layer may have several rows per image (windows of it, for one), those of an image one after another.
        """
        images, part = len(self.batches[self.batch]), self.replicas.part_of(len(self.batches[self.batch])).images
        if part == slice(0, images):
            return super()._uniform(path, shape)
        rows, others = divmod(shape[0], part.stop - part.start)
        assert not others, f"{path} draws for {shape[0]} rows of {part.stop - part.start} images"
        return super()._uniform(path, (rows * images, *shape[1:]))[rows * part.start : rows * part.stop]

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
        batches = in_order(self.data.test, recipe.evaluation_batch_size, self.device, form)
        test = evaluate(self.network, batches, folds=self.folds())
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


def initial_network(spec: PretrainSpec, catalog: Catalog = PACKAGED) -> Network:
    """Build the initial network: weights drawn from the seed, normalized by the statistics of its dataset's card."""
    card = catalog.dataset(spec.dataset)
    rng = generator(spec.seed, Purpose.NETWORK_INIT)
    return Network(build(catalog.architecture(spec.architecture), card.labels, rng), *card.channel_statistics())


def attack_in(constraint: Constraint, epsilon: float, band: Band | None = None) -> ThreatModel | None:
    """Return PGD(20) in the ball of a constraint (for gaussian, an L2 ball); None if there is no ball."""
    if constraint is Constraint.NONE:
        return None
    ball = Constraint.L2 if constraint is Constraint.GAUSSIAN else constraint
    return ThreatModel(constraint=ball, epsilon=epsilon, steps=_ATTACK_STEPS, band=band)


def adversarial_accuracy(
    network: Network, images: ImageSet, threat: ThreatModel, recipe: TrainingRecipe, device: torch.device
) -> float:
    """Return the accuracy in percent on images attacked by ``threat``; a random start uses a fixed generator.

    Raises:
        WorkspaceRefused: if it may depend on what shares the GPU.
    """
    tally = RunningMetrics()
    with deterministic(recipe), evaluating(network):
        batches = in_order(images, recipe.evaluation_batch_size, device, memory_format(recipe))
        for number, (x_NCHW, labels_N) in enumerate(batches):
            noise = draw_noise(threat, tuple(x_NCHW.shape), generator(0, Purpose.PERTURBATION, number))
            moved_NCHW = perturb(network, x_NCHW, labels_N, threat, noise)
            with torch.no_grad():
                logits_NK = network(moved_NCHW)
                tally.add(logits_NK, labels_N, nn.functional.cross_entropy(logits_NK, labels_N))
    refusals.require_none(device)
    return tally.accuracy_percent
