"""Comparing a source with its published accuracies: counts, intervals, agreement, ImageNet's folders."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from jobs.catalog.catalog import PACKAGED
from jobs.data.batches import in_order
from jobs.data.datasets import Dataset
from jobs.errors import Code, DamagedFile, InvalidRequest, MissingData
from jobs.execution.gpu_memory import WorkspaceRefused, refusals
from jobs.execution.metrics import evaluate
from jobs.kinds.pretrain import check_source as check
from jobs.kinds.pretrain.check_source import Measurement, attack_in, check_source, expectation
from jobs.kinds.pretrain.trial import adversarial_accuracy
from jobs.models.weight_files import bundled_directory, read_card
from jobs.models.weights import SourceWeights, load_source, write_source
from jobs.networks.builders import initialize
from jobs.networks.network import Network
from jobs.specs.optimizers import TrainingRecipe
from jobs.specs.threat_model import Constraint, ThreatModel
from tests.jobs.released import register, resnet_of
from tests.jobs.support import CPU, built
from tests.machine import fashion_mnist
from tests.packaged import packaged_weights
from tests.support import refused

CARDS = "that bundled sources are what their cards say"
L2 = ThreatModel(constraint=Constraint.L2, epsilon=1.0, steps=3)


@pytest.fixture(autouse=True)
def _no_cache() -> None:
    load_source.cache_clear()


@pytest.fixture
def tiny(weights: SourceWeights, few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    """A source of the digits' miniature on this machine, and its network."""
    card = register(monkeypatch, expected={"clean": 10, "origin": "us", "pgd": []})
    write_source(tmp_path / "home" / "weights", "tiny", weights.tensors, {})
    monkeypatch.setattr(check, "load_dataset", lambda *_: few_digits)
    return Network(resnet_of(weights.tensors), card.mean, card.std).to(memory_format=torch.channels_last)


def measure(name: str = "tiny", **options: Any) -> list[Measurement]:
    return list(check_source(name, PACKAGED, CPU, **options))


# --- counting ---


def test_the_whole_test_set(tiny: Network, few_digits: Dataset) -> None:
    (clean,) = measure()
    expected = evaluate(tiny, in_order(few_digits.test, 64, CPU, torch.channels_last))
    assert clean.correct == expected.sums.correct
    assert (clean.threat, clean.images, clean.expected) == (None, 64, 10)


def test_an_attack(tiny: Network, few_digits: Dataset) -> None:
    _, attacked = measure(attack=L2)
    assert attacked.accuracy == adversarial_accuracy(tiny, few_digits.test, L2, TrainingRecipe(), CPU)
    assert (attacked.threat, attacked.expected, attacked.agrees) == (L2, None, None)


@pytest.mark.usefixtures("tiny")
def test_a_clean_accuracy_is_refused_if_a_gpu_refused_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_count", lambda device: 1)
    with pytest.raises(WorkspaceRefused):
        measure()


def test_parts_are_counted_together(tiny: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measure(attack=L2)
    monkeypatch.setattr(check, "_PART", 10)
    assert measure(attack=L2) == whole


def test_a_sample_is_always_the_same_and_is_part_of_the_set(tiny: Network, few_digits: Dataset) -> None:
    chosen: list[int] = []
    tiny_correct = evaluate(tiny, in_order(few_digits.test, 64, CPU, torch.channels_last)).sums.correct
    for count in (20, 40, 64):
        (one,), (other,) = measure(images=count), measure(images=count)
        assert one == other
        assert one.images == count
        chosen.append(one.correct)
    assert chosen == sorted(chosen)
    assert chosen[-1] == tiny_correct


def test_more_images_than_there_are(tiny: Network) -> None:
    with refused(Code.WRONG_VALUE, "digits", 64, 65, kind=InvalidRequest, key="--images"):
        measure(images=65)


def test_random_initialisation_cannot_be_checked() -> None:
    with refused(Code.WRONG_VALUE, "'random_init'", kind=InvalidRequest, key="source"):
        measure("random_init")


def test_weights_that_are_not_here() -> None:
    with refused(Code.MISSING_WEIGHTS, "deltasweep models fetch natural", kind=MissingData):
        measure("natural")


def test_weights_of_another_network(tiny: Network, tmp_path: Path) -> None:
    path = write_source(tmp_path / "home" / "weights", "tiny", {"fc.bias": torch.zeros(10)}, {})
    with refused(Code.DAMAGED_WEIGHTS, "'tiny'", "resnet35-w8", kind=DamagedFile, file=path):
        measure()


# --- agreement ---


def made(
    correct: int, images: int, available: int, expected: float | None, threat: ThreatModel | None = None
) -> Measurement:
    return Measurement(threat, correct, images, available, expected)


def test_the_interval_is_exact_binomial() -> None:
    """Clopper-Pearson, 99 %: 0 of 20 is below 1 - 0.005 ** (1 / 20)."""
    low, high = made(0, 20, 1000, None).interval
    assert low == 0
    assert high == pytest.approx(100 * (1 - 0.005 ** (1 / 20)))
    low, high = made(50, 100, 1000, None).interval
    assert (low, high) == pytest.approx((36.89, 63.11), abs=0.01)


def test_on_the_whole_set_there_is_no_chance() -> None:
    assert made(50, 100, 100, None).interval == (50, 50)


@pytest.mark.parametrize(
    ("expected", "agrees"), [(None, None), (50.5, True), (49.5, True), (50.6, False), (49.4, False)]
)
def test_agreement_on_the_whole_set(expected: float | None, agrees: bool | None) -> None:
    assert made(5000, 10000, 10000, expected).agrees is agrees


def test_attacks_are_granted_more() -> None:
    assert made(5000, 10000, 10000, 51.0, L2).agrees is True
    assert made(5000, 10000, 10000, 51.1, L2).agrees is False


@pytest.mark.parametrize(("expected", "agrees"), [(63, True), (37, True), (64, False), (36, False)])
def test_agreement_on_a_sample(expected: float, agrees: bool) -> None:
    assert made(50, 100, 10000, expected).agrees is agrees


def test_the_chance_of_a_false_alarm() -> None:
    """Over samples of the measured set, at most one in a hundred disagrees with the set's own accuracy."""
    rng = np.random.default_rng(1)
    counts = np.bincount(rng.binomial(200, 0.7, 100_000))
    alarms = sum(int(n) for k, n in enumerate(counts) if n and made(k, 200, 10000, 70.0).agrees is False)
    assert 0 < alarms < 1000


# --- the report ---


def test_expectations_of_the_paper() -> None:
    said = expectation(PACKAGED.source("l2_eps3"))
    assert said is not None
    assert said.clean == 57.90
    assert [(a.constraint, a.epsilon, a.steps, a.accuracy) for a in said.pgd] == [("l2", 3, 20, 35.16)]


def test_expectations_of_bundled_sources_are_in_their_cards() -> None:
    card, said = (
        read_card(bundled_directory() / "fmnist_l2_eps1.safetensors"),
        expectation(PACKAGED.source("fmnist_l2_eps1")),
    )
    assert card is not None
    assert said is not None
    assert said.clean == card["clean_accuracy"]
    assert [a.accuracy for a in said.pgd] == [a["accuracy"] for a in card["adversarial_accuracy"]]


def test_nothing_is_said_of_weights_without_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)
    assert expectation(PACKAGED.source("tiny")) is None


@pytest.mark.parametrize("epsilon", ["0", "-1", "a", "1/0", "nan", "inf"])
def test_balls_that_cannot_be(epsilon: str) -> None:
    with refused(Code.WRONG_VALUE, f"'{epsilon}'", kind=InvalidRequest, key="--epsilon"):
        attack_in("l2", epsilon, 20)


def test_radii_may_be_fractions() -> None:
    assert attack_in("linf", "4/255", 20) == ThreatModel(constraint=Constraint.LINF, epsilon=4 / 255, steps=20)


# --- real weights on real images ---


def test_a_bundled_source_agrees_with_its_card() -> None:
    clean, *attacked = measure("fmnist_l2_eps1", data_directory=fashion_mnist(CARDS), images=100)
    assert clean.available == 10000
    assert len(attacked) == 3
    assert all(found.agrees for found in (clean, *attacked))


def test_swapped_weights_do_not_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The natural miniature under the robust one's name: no robustness."""
    monkeypatch.setattr(check, "load_any", lambda *_: packaged_weights("fmnist_natural"))
    _, *attacked = measure("fmnist_linf_eps8", data_directory=fashion_mnist(CARDS), images=100)
    assert [found.agrees for found in attacked] == [False, False, False]


# --- ImageNet's folders ---


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One image per label, in a uniform colour that encodes its label; wider than high."""
    root = tmp_path_factory.mktemp("imagenet")
    for label in range(1000):
        folder = root / "val" / f"n{10_000_000 + 7 * label:08d}"
        folder.mkdir(parents=True)
        Image.new("RGB", (40, 30), (label // 4, label // 4, 255 - label // 4)).save(folder / "a.png")
    return root


@pytest.fixture
def resnet50(tmp_path: Path) -> Network:
    resnet = built("resnet50", 1000)
    initialize(resnet, torch.Generator().manual_seed(1))
    write_source(tmp_path / "home" / "weights", "natural", dict(resnet.state_dict()), {})
    card = PACKAGED.source("natural")
    return Network(resnet, card.mean, card.std).eval()


def test_imagenet(imagenet: Path, resnet50: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images and labels as evaluation needs them; a few images of a small folder still count as a sample of 50,000."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    count = check._correct

    def counting(network: Network, part: Any, *rest: Any) -> Any:
        seen.append(part)
        return count(network, part, *rest)

    monkeypatch.setattr(check, "_correct", counting)
    attack = attack_in("l2", "3", 1)
    clean, attacked = measure("natural", data_directory=imagenet, images=6, attack=attack)
    images_NCHW, labels_N = seen[0]
    assert images_NCHW.shape == (6, 3, 224, 224)
    assert images_NCHW.dtype == torch.uint8
    assert [int(image[0, 0, 0]) for image in images_NCHW] == [int(label) // 4 for label in labels_N]
    assert (clean.images, clean.available, clean.expected) == (6, 50000, 76.13)
    assert (attacked.threat, attacked.expected) == (attack, None)
    with torch.no_grad():
        logits_NK = resnet50(images_NCHW.float() / 255)
    assert clean.correct == int((logits_NK.argmax(1) == labels_N).sum())


def test_imagenet_is_resized_by_its_shorter_side_and_cut(imagenet: Path, tmp_path: Path) -> None:
    """As torchvision evaluates IMAGENET1K_V1: 256, then 224 of the centre."""
    from torchvision.models import ResNet50_Weights
    from torchvision.transforms.functional import pil_to_tensor, resize

    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (300, 400, 3), dtype=np.uint8))
    found = check._imagenet(imagenet, 224, 1000).transform(image)
    preset = ResNet50_Weights.IMAGENET1K_V1.transforms()
    assert (preset.resize_size, preset.crop_size) == ([256], [224])
    resized = pil_to_tensor(resize(image, [256]))
    assert resized.shape == (3, 256, 341)
    assert torch.equal(found, resized[:, 16:240, 58:282])


def test_a_folder_without_imagenet(tmp_path: Path, resnet50: Network) -> None:
    (tmp_path / "n01440764").mkdir()
    nowhere, own = tmp_path / "nowhere", tmp_path / "home" / "data" / "imagenet"
    for folder, place, found in ((tmp_path, tmp_path, 1), (nowhere, nowhere, 0), (None, own, 0)):
        values = ("1,000", "n01440764", f"{place} has {found} ")
        with refused(Code.MISSING_DATA, *values, kind=MissingData, file=place):
            measure("natural", data_directory=folder)


def test_an_image_that_is_damaged(imagenet: Path, resnet50: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_PART", 2)
    folder = check._imagenet(imagenet, 224, 1000)
    folder.samples[3] = (str(imagenet / "val" / "broken.png"), 3)
    (imagenet / "val" / "broken.png").write_bytes(b"no image")
    path = imagenet / "val" / "broken.png"
    with refused(Code.DAMAGED_DATA, path, kind=DamagedFile, file=path):
        check._decoded(folder, torch.tensor([3]))
    (imagenet / "val" / "broken.png").unlink()
