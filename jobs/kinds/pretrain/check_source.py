"""Compare a source model's measured accuracy with the published one (``deltasweep models check``)."""

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

from jobs.catalog.catalog import Catalog, how_to_get
from jobs.catalog.source_card import AttackAccuracy, Expected, SourceCard
from jobs.data.batches import in_order
from jobs.data.datasets import ImageSet, load_dataset
from jobs.errors import Code, DamagedFile, InvalidRequest, MissingData, reading_failure
from jobs.execution.determinism import deterministic, memory_format
from jobs.execution.gpu_memory import refusals
from jobs.execution.metrics import evaluate
from jobs.execution.seeding import Purpose, generator
from jobs.kinds.pretrain.trial import adversarial_accuracy
from jobs.models.own_weights import load_any
from jobs.models.weight_files import read_card, weights_path
from jobs.networks.builders import build, load_weights
from jobs.networks.network import Network
from jobs.paths import data_directory
from jobs.specs.optimizers import TrainingRecipe
from jobs.specs.threat_model import Constraint, ThreatModel

CONFIDENCE = 0.99
"""Confidence level of the interval around an accuracy on a subset: at most one check in a hundred fails by chance."""

CLEAN_TOLERANCE = 0.5
"""Tolerance in percentage points, for differences in image decoding, resizing and summation."""

ATTACK_TOLERANCE = 1.0
"""The same under attack: some publish PGD's best iterate, whereas the last is used here."""

_PART = 1000  # number of images in memory at once
_WORDNET_ID = re.compile(r"n\d{8}")


class Measurement(NamedTuple):
    """A source's accuracy, measured on this machine, in percent."""

    threat: ThreatModel | None
    """Attack; None for clean images."""
    correct: int
    images: int
    available: int
    """Size of the test set; if fewer images are used, the accuracy is an estimate."""
    expected: float | None
    """Expected accuracy, if known."""

    @property
    def accuracy(self) -> float:
        return 100 * self.correct / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """Interval of the accuracy on all test images: exact binomial on a subset, a single point on all of them."""
        if self.images == self.available:
            return self.accuracy, self.accuracy
        found = binomtest(self.correct, self.images).proportion_ci(CONFIDENCE, method="exact")
        return 100 * float(found.low), 100 * float(found.high)

    @property
    def agrees(self) -> bool | None:
        """Whether the expected accuracy is in the interval, widened by the tolerance; None if it is unknown."""
        if self.expected is None:
            return None
        low, high = self.interval
        tolerance = CLEAN_TOLERANCE if self.threat is None else ATTACK_TOLERANCE
        return low - tolerance <= self.expected <= high + tolerance

    def plain(self) -> dict[str, object]:
        """Return the measurement as in ``models check --json``, in percent."""
        threat = None if self.threat is None else self.threat.model_dump(mode="json")
        counts = {"correct": self.correct, "images": self.images, "available": self.available}
        interval = {"accuracy": self.accuracy, "low": self.interval[0], "high": self.interval[1]}
        return {"threat": threat, **counts, **interval, "expected": self.expected, "agrees": self.agrees}


def expectation(card: SourceCard) -> Expected | None:
    """Return a source's expected accuracies: published (catalogue), or measured after its training (its card)."""
    if card.expected is not None or card.random:
        return card.expected
    facts = read_card(weights_path(card)) or {}
    if facts.get("clean_accuracy") is None:
        return None
    attacks = [AttackAccuracy.model_validate(attack) for attack in facts.get("adversarial_accuracy", [])]
    return Expected(clean=facts["clean_accuracy"], origin="measured when it was trained", pgd=tuple(attacks))


def attack_in(constraint: str, epsilon: str, steps: int) -> ThreatModel:
    """Return PGD(``steps``) in a ball; the radius may be a fraction.

    Raises:
        InvalidRequest: if there is no such ball.
    """
    try:
        return ThreatModel(constraint=Constraint(constraint), epsilon=float(Fraction(epsilon)), steps=steps)
    except (ValueError, ZeroDivisionError) as error:
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"expected epsilon as a number above 0, for images in [0, 1], such as 3 or 4/255; got {epsilon!r}",
            key="--epsilon",
        ) from error


def check_source(
    name: str,
    catalog: Catalog,
    device: torch.device,
    *,
    data_directory: Path | None = None,
    images: int | None = None,
    attack: ThreatModel | None = None,
) -> Iterator[Measurement]:
    """Measure a source's accuracy on clean images, then under attack.

    Args:
        data_directory: the folder of the source dataset's files; for ImageNet, the folder with one subfolder per label,
            or the folder that contains ``val`` or ``test``.
        images: size of a random, but fixed, sample of test images; None for all.
        attack: replaces the attacks with an expected accuracy.

    Raises:
        InvalidRequest: if there is nothing to measure, or there are fewer images.
        MissingData, DamagedFile: if weights or images are missing or damaged.
        WorkspaceRefused: if an accuracy may depend on what shares the GPU.
    """
    card = catalog.source(name)
    if card.random:
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"source {name!r} is drawn from each trial's seed; there is nothing to check",
            key="source",
        )
    said = expectation(card)
    network = _network(card, catalog).to(device)
    test = _TestImages(card, catalog, data_directory)
    count = len(test) if images is None else images
    if not 1 <= count <= len(test):
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"{test.dataset} has {len(test):,} test images on this machine; got {count:,}",
            key="--images",
        )
    chosen = torch.randperm(len(test), generator=generator(0, Purpose.SUBSET))[:count].sort().values
    published = {} if said is None else {_threat(attack): attack.accuracy for attack in said.pgd}
    threats = [None, *([attack] if attack else published)]
    for threat in threats:
        expected = published.get(threat) if threat else said.clean if said else None
        correct = sum(_correct(network, part, threat, device) for part in test.parts(chosen))
        yield Measurement(threat, correct, count, max(len(test), catalog.dataset(test.dataset).test), expected)


def _network(card: SourceCard, catalog: Catalog) -> Network:
    weights = load_any(card, catalog)
    parts = build(catalog.architecture(card.architecture), catalog.dataset(card.test_dataset).labels)
    try:
        load_weights(parts, weights.tensors)
    except RuntimeError as error:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"the weights of {card.name!r} do not fit a {card.architecture}: {error}. Fix: get them again with: "
            f"{how_to_get(card)}",
            file=weights_path(card),
        ) from error
    return Network(parts, card.mean, card.std).to(memory_format=memory_format(_recipe()))


def _recipe() -> TrainingRecipe:
    """Return the arithmetic of the measurement: as in training, with torch's current number of threads."""
    return TrainingRecipe(threads=torch.get_num_threads())


def _threat(attack: AttackAccuracy) -> ThreatModel:
    return ThreatModel(constraint=attack.constraint, epsilon=attack.epsilon, steps=attack.steps, band=attack.band)


def _correct(network: Network, part: ImageSet, threat: ThreatModel | None, device: torch.device) -> int:
    recipe = _recipe()
    if threat is not None:
        return round(adversarial_accuracy(network, part, threat, recipe, device) * len(part.labels_N) / 100)
    batches = in_order(part, recipe.evaluation_batch_size, device, memory_format(recipe))
    with deterministic(recipe):
        correct = evaluate(network, batches).sums.correct
    refusals.require_none(device)
    return correct


class _TestImages:
    """The test images of the dataset on which a source's accuracy is known, by index."""

    def __init__(self, card: SourceCard, catalog: Catalog, directory: Path | None) -> None:
        """Find the images; of ImageNet, only the file names are read."""
        self.dataset = card.test_dataset
        size = catalog.architecture(card.architecture).image_size
        labels = catalog.dataset(self.dataset).labels
        self._folder = _imagenet(directory, size, labels) if self.dataset == "imagenet" else None
        self._set = None if self._folder else load_dataset(catalog.dataset(self.dataset), size, directory).test

    def __len__(self) -> int:
        return len(self._set.labels_N) if self._set else len(self._folder or [])

    def parts(self, chosen: Tensor) -> Iterator[ImageSet]:
        """Yield the images with the given indices in parts."""
        for indices in torch.split(chosen, _PART):
            if self._set:
                yield ImageSet(self._set.images_NCHW[indices], self._set.labels_N[indices])
            elif self._folder:
                yield _decoded(self._folder, indices)


def _imagenet(directory: Path | None, size: int, labels: int) -> ImageFolder:
    """Find ImageNet's test images; the shorter side is resized to 256 pixels for 224, then the centre is cropped."""
    root = directory or data_directory() / "imagenet"
    folder = next((root / part for part in ("val", "test") if (root / part).is_dir()), root)
    folders = [path for path in folder.iterdir() if _WORDNET_ID.fullmatch(path.name)] if folder.is_dir() else []
    if len(folders) != labels:
        raise MissingData(
            Code.MISSING_DATA,
            f"expected the test images of ImageNet in {labels:,} folders named by WordNet id (n01440764, ...), one per "
            f"label; {folder} has {len(folders):,} of them. Fix: put the validation images there, sorted into such "
            "folders, or name the folder that has them",
            file=folder,
        )
    steps = [transforms.Resize(size * 8 // 7), transforms.CenterCrop(size), transforms.PILToTensor()]
    try:
        return ImageFolder(str(folder), transforms.Compose(steps))
    except FileNotFoundError as error:
        raise MissingData(
            Code.MISSING_DATA, f"expected test images for every label of ImageNet; {error}", file=folder
        ) from error


def _decoded(folder: ImageFolder, indices: Tensor) -> ImageSet:
    images, labels = [], []
    for index in indices.tolist():
        try:
            image, label = folder[index]
        except (OSError, SyntaxError) as error:
            path = folder.samples[index][0]
            damaged = DamagedFile(
                Code.DAMAGED_DATA,
                f"{path} cannot be read as an image ({error}). Fix: replace it with the original file",
                file=path,
            )
            raise reading_failure(error, path, damaged) from error
        images.append(image)
        labels.append(label)
    return ImageSet(torch.stack(images), torch.tensor(labels))
