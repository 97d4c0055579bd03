"""Measuring a source model against what is said of it (``deltasweep models check``)."""

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import torch
from scipy.stats import binomtest
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2 as transforms

from jobs import registry
from jobs.batches import in_order
from jobs.data.datasets import ImageSet, load_dataset
from jobs.errors import Code, DamagedFile, InvalidRequest, MissingData
from jobs.evaluation import evaluate
from jobs.home import data_directory
from jobs.networks import BUILDERS, Network
from jobs.numerics import memory_format, numerics
from jobs.pretrain import adversarial_accuracy
from jobs.randomness import Purpose, generator
from jobs.registry import AttackAccuracy, Expected, SourceCard
from jobs.source_files import read_card, weights_path
from jobs.specs import Constraint, Sgd, ThreatModel
from jobs.weights import load_source

CONFIDENCE = 0.99
"""Of the interval around an accuracy on a subset: one check in a hundred fails by chance."""

CLEAN_TOLERANCE = 0.5
"""Percentage points that other decoders, resizers and sums are granted on the whole test set."""

ATTACK_TOLERANCE = 1.0
"""The same under attack: some publish the best iterate of PGD, here it is the last."""

_PART = 1000  # images in memory at once
_WORDNET_ID = re.compile(r"n\d{8}")


class Measurement(NamedTuple):
    """An accuracy of a source, measured here. Accuracies are percent."""

    threat: ThreatModel | None
    """The attack; None for clean images."""
    correct: int
    images: int
    available: int
    """Test images in all; on fewer the accuracy is an estimate."""
    expected: float | None
    """What is said of it, if anything."""

    @property
    def accuracy(self) -> float:
        return 100 * self.correct / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """Where the accuracy on all test images lies: exact binomial on a subset, a point on all of them."""
        if self.images == self.available:
            return self.accuracy, self.accuracy
        found = binomtest(self.correct, self.images).proportion_ci(CONFIDENCE, method="exact")
        return 100 * float(found.low), 100 * float(found.high)

    @property
    def agrees(self) -> bool | None:
        """Whether what is said lies in the interval, widened by the tolerance; None when nothing is said."""
        if self.expected is None:
            return None
        low, high = self.interval
        tolerance = CLEAN_TOLERANCE if self.threat is None else ATTACK_TOLERANCE
        return low - tolerance <= self.expected <= high + tolerance


def expectation(name: str) -> Expected | None:
    """What is said of a source: published in the registry, or measured by whoever trained it, in its card."""
    card = registry.source(name)
    if card.expected is not None or card.random:
        return card.expected
    facts = read_card(weights_path(name)) or {}
    if facts.get("clean_accuracy") is None:
        return None
    attacks = [AttackAccuracy.model_validate(attack) for attack in facts.get("adversarial_accuracy", [])]
    return Expected(clean=facts["clean_accuracy"], origin="measured when it was trained", pgd=tuple(attacks))


def attack_in(constraint: str, epsilon: str, steps: int) -> ThreatModel:
    """PGD(``steps``) in a ball; the radius may be written as a fraction.

    Raises:
        InvalidRequest: when there is no such ball.
    """
    try:
        return ThreatModel(constraint=Constraint(constraint), epsilon=float(Fraction(epsilon)), steps=steps)
    except (ValueError, ZeroDivisionError) as error:
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"epsilon is a number above 0, for images in [0, 1], such as 3 or 4/255; it is {epsilon!r}",
            key="--epsilon",
        ) from error


def check_source(
    name: str,
    device: torch.device,
    *,
    data_directory: Path | None = None,
    images: int | None = None,
    attack: ThreatModel | None = None,
) -> Iterator[Measurement]:
    """Measure a source's accuracy on clean images, and under attack, one after the other.

    Args:
        data_directory: the folder of the source dataset's files; of ImageNet that of the labels, or of ``val`` or
            ``test``.
        images: a random sample of so many test images, always the same; None for all.
        attack: instead of those that something is said of.

    Raises:
        InvalidRequest: when there is nothing to measure, or not as many images.
        MissingData, DamagedFile: when weights or images are not here, or not what they should be.
    """
    card = registry.source(name)
    if card.random:
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"source {name!r} is drawn from each trial's seed; there is nothing to check",
            key="source",
        )
    said = expectation(name)
    network = _network(card).to(device)
    test = _TestImages(card, data_directory)
    count = len(test) if images is None else images
    if not 1 <= count <= len(test):
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"{test.dataset} has {len(test):,} test images here; asked for {count:,}",
            key="--images",
        )
    chosen = torch.randperm(len(test), generator=generator(0, Purpose.SUBSET))[:count].sort().values
    published = {} if said is None else {_threat(attack): attack.accuracy for attack in said.pgd}
    threats = [None, *([attack] if attack else published)]
    for threat in threats:
        expected = published.get(threat) if threat else said.clean if said else None
        correct = sum(_correct(network, part, threat, device) for part in test.parts(chosen))
        yield Measurement(threat, correct, count, max(len(test), registry.dataset(test.dataset).test), expected)


def _network(card: SourceCard) -> Network:
    weights = load_source(card.name)
    resnet = BUILDERS[card.architecture](registry.dataset(card.test_dataset).labels)
    try:
        resnet.load_state_dict(weights.tensors)
    except RuntimeError as error:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"the weights of {card.name!r} are not those of a {card.architecture}: {error}; get them again with: "
            f"{card.how_to_get}",
            file=weights_path(card.name),
        ) from error
    return Network(resnet, card.mean, card.std).to(memory_format=memory_format(_recipe()))


def _recipe() -> Sgd:
    """How the arithmetic is done: as for training, with as many threads as torch takes here."""
    return Sgd(threads=torch.get_num_threads())


def _threat(attack: AttackAccuracy) -> ThreatModel:
    return ThreatModel(constraint=attack.constraint, epsilon=attack.epsilon, steps=attack.steps, band=attack.band)


def _correct(network: Network, part: ImageSet, threat: ThreatModel | None, device: torch.device) -> int:
    recipe = _recipe()
    if threat is not None:
        return round(adversarial_accuracy(network, part, threat, recipe, device) * len(part.labels_N) / 100)
    batches = in_order(part, recipe.evaluation_batch_size, device, memory_format(recipe))
    with numerics(recipe):
        return evaluate(network, batches).correct


class _TestImages:
    """The test images of the dataset that a source's accuracy is known on, by index."""

    def __init__(self, card: SourceCard, directory: Path | None) -> None:
        """Find them; of ImageNet only the file names are read."""
        self.dataset = card.test_dataset
        size = registry.architecture(card.architecture).image_size
        self._folder = _imagenet(directory, size) if self.dataset == "imagenet" else None
        self._set = None if self._folder else load_dataset(self.dataset, size, directory).test

    def __len__(self) -> int:
        return len(self._set.labels_N) if self._set else len(self._folder or [])

    def parts(self, chosen: Tensor) -> Iterator[ImageSet]:
        """The images of the given indices, some at a time."""
        for indices in torch.split(chosen, _PART):
            if self._set:
                yield ImageSet(self._set.images_NCHW[indices], self._set.labels_N[indices])
            elif self._folder:
                yield _decoded(self._folder, indices)


def _imagenet(directory: Path | None, size: int) -> ImageFolder:
    """ImageNet's test images as they are evaluated: the shorter side 256 pixels for 224, then the centre."""
    root = directory or data_directory() / "imagenet"
    folder = next((root / part for part in ("val", "test") if (root / part).is_dir()), root)
    labels = registry.dataset("imagenet").labels
    found = [path for path in folder.iterdir() if _WORDNET_ID.fullmatch(path.name)] if folder.is_dir() else []
    if len(found) != labels:
        raise MissingData(
            Code.MISSING_DATA,
            f"the test images of ImageNet are {labels:,} folders named by WordNet id (n01440764, ...), one a label; "
            f"{folder} has {len(found):,} of them. Put the validation images there, sorted into such folders, or name "
            "the folder that has them",
            file=folder,
        )
    steps = [transforms.Resize(size * 8 // 7), transforms.CenterCrop(size), transforms.PILToTensor()]
    try:
        return ImageFolder(str(folder), transforms.Compose(steps))
    except FileNotFoundError as error:
        raise MissingData(
            Code.MISSING_DATA, f"every label of ImageNet has test images; {error}", file=folder
        ) from error


def _decoded(folder: ImageFolder, indices: Tensor) -> ImageSet:
    images, labels = [], []
    for index in indices.tolist():
        try:
            image, label = folder[index]
        except (OSError, SyntaxError) as error:
            path = folder.samples[index][0]
            raise DamagedFile(
                Code.DAMAGED_DATA,
                f"{path} cannot be read as an image ({error}); put the original file there",
                file=path,
            ) from error
        images.append(image)
        labels.append(label)
    return ImageSet(torch.stack(images), torch.tensor(labels))
