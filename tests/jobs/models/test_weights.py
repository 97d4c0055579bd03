"""Stored weights, and the claims of the bundled sources' cards."""

import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from jobs.catalog.catalog import PACKAGED
from jobs.catalog.source_card import SourceCard
from jobs.errors import Code, DamagedFile, InvalidRequest, MissingData
from jobs.kinds.pretrain.spec import PretrainSpec
from jobs.kinds.pretrain.spec import pretrain_spec as spec_of_source
from jobs.models.weight_files import bundled_directory, weights_path
from jobs.models.weights import SourceWeights, load_source, write_source
from jobs.specs.threat_model import Constraint
from tests.golden.rows import rows
from tests.jobs.support import built
from tests.packaged import packaged_weights
from tests.support import refused

BUNDLED = [name for name, card in PACKAGED.sources.items() if card.bundled]


@pytest.fixture(autouse=True)
def _no_cache() -> None:
    load_source.cache_clear()


@pytest.fixture
def written(weights: SourceWeights, tmp_path: Path) -> Path:
    """Weights of the source ``natural`` in this machine's directory; the tensors are the miniature's."""
    return write_source(tmp_path / "home" / "weights", "natural", weights.tensors, {"seed": 5})


# --- loading ---


def test_written_weights_load_bit_for_bit(written: Path, weights: SourceWeights) -> None:
    loaded = packaged_weights("natural")
    assert set(loaded.tensors) == set(weights.tensors)
    assert all(torch.equal(loaded.tensors[name], tensor) for name, tensor in weights.tensors.items())
    assert loaded.sha256 == hashlib.sha256(written.read_bytes()).hexdigest()


def test_the_card_beside_the_weights(written: Path) -> None:
    card = json.loads(written.with_suffix(".json").read_text(encoding="utf-8"))
    assert card == {"name": "natural", "sha256": hashlib.sha256(written.read_bytes()).hexdigest(), "seed": 5}


def test_writing_leaves_nothing_else_behind(written: Path) -> None:
    assert sorted(file.name for file in written.parent.iterdir()) == ["natural.json", "natural.safetensors"]


def test_memory_format_does_not_change_the_file(written: Path, weights: SourceWeights, tmp_path: Path) -> None:
    tensors = {
        name: t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t
        for name, t in weights.tensors.items()
    }
    assert write_source(tmp_path / "other", "natural", tensors, {}).read_bytes() == written.read_bytes()


def test_weights_without_a_card_load(written: Path) -> None:
    written.with_suffix(".json").unlink()
    assert packaged_weights("natural").sha256 == hashlib.sha256(written.read_bytes()).hexdigest()


def test_unknown_source() -> None:
    with refused(
        Code.UNKNOWN_NAME, "'nat'", "did you mean natural?", "deltasweep models list", kind=InvalidRequest, key="source"
    ):
        packaged_weights("nat")


def test_missing_weights(tmp_path: Path) -> None:
    path = tmp_path / "home" / "weights" / "l2_eps3.safetensors"
    values = ("'l2_eps3'", path, "deltasweep models fetch l2_eps3")
    with refused(Code.MISSING_WEIGHTS, *values, kind=MissingData, file=path):
        packaged_weights("l2_eps3")


def test_weights_that_are_not_those_of_their_card(written: Path) -> None:
    data = bytearray(written.read_bytes())
    data[-1] ^= 1
    written.write_bytes(bytes(data))
    digests = (hashlib.sha256(data).hexdigest(), json.loads(written.with_suffix(".json").read_text())["sha256"])
    with refused(Code.DAMAGED_WEIGHTS, written, *digests, kind=DamagedFile, file=written):
        packaged_weights("natural")


@pytest.mark.parametrize("data", [b"", b"not safetensors at all", b"\xff" * 100])
def test_a_file_that_is_not_safetensors(written: Path, data: bytes) -> None:
    written.with_suffix(".json").unlink()
    written.write_bytes(data)
    with refused(Code.DAMAGED_WEIGHTS, written, kind=DamagedFile, file=written):
        packaged_weights("natural")


def test_weights_cut_off(written: Path) -> None:
    written.with_suffix(".json").unlink()
    written.write_bytes(written.read_bytes()[:-100])
    with refused(Code.DAMAGED_WEIGHTS, written, kind=DamagedFile, file=written):
        packaged_weights("natural")


@pytest.mark.parametrize("text", ["", "{", '{"name": "natural"}', "[]"])
def test_a_card_that_cannot_be_read_is_named(written: Path, text: str) -> None:
    card = written.with_suffix(".json")
    card.write_text(text, encoding="utf-8")
    with refused(Code.DAMAGED_RECORD, card, kind=DamagedFile, file=card):
        packaged_weights("natural")


def test_where_weights_lie(tmp_path: Path) -> None:
    assert weights_path(PACKAGED.source("fmnist_natural")) == bundled_directory() / "fmnist_natural.safetensors"
    assert weights_path(PACKAGED.source("natural")) == tmp_path / "home" / "weights" / "natural.safetensors"


# --- the catalogue's cards ---


def test_radii_are_fractions() -> None:
    assert PACKAGED.source("fmnist_linf_eps4").epsilon == 4 / 255
    assert PACKAGED.source("linf_eps8").epsilon == 8 / 255
    assert PACKAGED.source("l2_eps3").epsilon == 3


def test_registry_has_the_paper_s_and_the_miniature_s_sources() -> None:
    assert set(PACKAGED.sources) >= {"natural", "l2_eps3", "linf_eps4", "linf_eps8"}
    constraints = {PACKAGED.source(name).constraint for name in BUNDLED}
    assert constraints == set(Constraint), "natural, L2, Linf, Gaussian and Fourier"
    one_step = [name for name in BUNDLED if (p := PACKAGED.source(name).pretrain) and p.steps == 1]
    assert one_step == ["fmnist_pgd1_l2_eps1", "fmnist_pgd1_fourier_eps1"]
    pixels, frequencies = (spec_of_source(PACKAGED.source(name), PACKAGED) for name in one_step)
    changes = {"constraint": Constraint.L2, "band": None}
    assert frequencies.threat.model_copy(update=changes) == pixels.threat, "they differ in the basis alone"
    assert frequencies.model_copy(update={"threat": pixels.threat}) == pixels


@pytest.mark.parametrize("name", [name for name, card in PACKAGED.sources.items() if card.pretrain])
def test_sources_trained_here_are_normalised_as_they_are_trained(name: str) -> None:
    card = PACKAGED.source(name)
    assert (card.mean, card.std) == PACKAGED.dataset(card.trained_on).channel_statistics()


def test_sources_from_elsewhere_have_no_pretraining() -> None:
    with refused(Code.WRONG_VALUE, "'natural'", "fmnist_natural, ", kind=InvalidRequest, key="source"):
        spec_of_source(PACKAGED.source("natural"), PACKAGED)


IMAGENET = {"natural": 76.13, "l2_eps3": 57.90, "linf_eps4": 62.42, "linf_eps8": 47.91}


@pytest.mark.parametrize(("name", "accuracy"), IMAGENET.items())
def test_the_paper_s_sources_are_those_of_table_5(name: str, accuracy: float) -> None:
    card = PACKAGED.source(name)
    assert card.expected is not None
    assert (card.expected.clean, card.architecture, card.trained_on) == (accuracy, "resnet50", "imagenet")
    assert "Table 5" in card.expected.origin


def test_sources_trained_on_imagenet_follow_a_10() -> None:
    pgd, gaussian = (spec_of_source(PACKAGED.source(name), PACKAGED) for name in ("pgd1_l2_eps3", "gaussian_l2_eps3"))
    assert (pgd.threat.constraint, pgd.threat.epsilon, pgd.threat.steps, pgd.threat.step_size) == ("l2", 3, 1, 6)
    assert (gaussian.threat.constraint, gaussian.threat.epsilon) == ("gaussian", 3)
    for recipe in (pgd.recipe, gaussian.recipe):
        assert (recipe.learning_rate, recipe.batch_size, recipe.momentum, recipe.lr_decay) == (0.1, 128, 0.9, 0.1)


RELEASED = [card for card in PACKAGED.sources.values() if card.release]


def test_no_two_sources_are_one_file() -> None:
    """The hub's family has the constraints and radii of the paper's sources, but other weights."""
    for what in ("file", "sha256", "urls"):
        values = [value for card in RELEASED if (value := getattr(card.release, what))]
        assert len(set(values)) == len(values), what


@pytest.mark.parametrize("card", RELEASED, ids=lambda card: card.name)
def test_published_sources_say_where_they_come_from(card: SourceCard) -> None:
    assert card.release is not None
    assert (card.expected is None) == card.name.startswith("ares_"), "ARES-Bench measured on 1,000 images"
    assert all(url.startswith("https://") and card.release.file in url for url in card.release.urls)
    assert (card.release.known_from is None) == (card.release.sha256 is None and card.release.sha256_prefix is None)
    assert card.licence
    assert PACKAGED.dataset(card.test_dataset).labels == 1000
    assert (card.mean, card.std) == PACKAGED.dataset("imagenet").channel_statistics()


HUB = [(card, match) for card in RELEASED if (match := re.fullmatch(r"hf_(l2|linf)_eps([\d.]+)", card.name))]


@pytest.mark.parametrize(("card", "match"), HUB, ids=[card.name for card, _ in HUB])
def test_the_hub_s_files_are_those_of_their_names(card: SourceCard, match: re.Match[str]) -> None:
    """L-infinity radii are written in 255ths, with one decimal."""
    norm, radius = match[1], float(match[2])
    assert card.release is not None
    written = f"{radius:.1f}" if norm == "linf" else f"{radius:g}"
    assert card.release.file == f"resnet50_{norm}_eps{written}.ckpt"
    assert card.epsilon == (radius / 255 if norm == "linf" else radius)
    assert card.constraint == (norm if radius else "none")


def test_the_hub_s_family_is_whole() -> None:
    assert len(HUB) == 15


OTHERS = [
    (card, match)
    for card in RELEASED
    if (match := re.fullmatch(r"(?P<architecture>.+)_(?P<norm>l2|linf)_eps(?P<radius>[\d.]+)", card.name))
    and match["architecture"] != "hf"
    and not card.name.startswith("ares_")
]
FILE_NAMES = {
    "densenet161": "densenet",
    "mnasnet1_0": "mnasnet",
    "mobilenet_v2": "mobilenet",
    "shufflenet_v2_x1_0": "shufflenet",
}
"""The hub's names of networks, where they are not torchvision's."""


@pytest.mark.parametrize(("card", "match"), OTHERS, ids=[card.name for card, _ in OTHERS])
def test_the_hub_s_other_networks_are_those_of_their_names(card: SourceCard, match: re.Match[str]) -> None:
    architecture, norm, radius = match["architecture"], match["norm"], float(match["radius"])
    assert card.release is not None
    written = f"{radius:.1f}" if norm == "linf" else f"{radius:g}"
    assert card.architecture == architecture
    assert architecture in PACKAGED.architectures
    assert card.release.file == f"{FILE_NAMES.get(architecture, architecture)}_{norm}_eps{written}.ckpt"
    assert card.epsilon == (radius / 255 if norm == "linf" else radius)
    assert card.constraint == (norm if radius else "none")
    assert card.release.format == "robustness"
    assert (card.licence, card.trained_on) == (PACKAGED.source("hf_l2_eps3").licence, "imagenet")


def test_the_hub_s_other_networks_are_whole() -> None:
    """Ten L2 radii of three networks, five L-infinity radii of two, and radii 0 and 3 of six."""
    found = Counter((match["architecture"], match["norm"]) for _, match in OTHERS)
    ten, five = ("resnet18", "wide_resnet50_2", "wide_resnet50_4"), ("resnet18", "wide_resnet50_2")
    two = (*FILE_NAMES, "resnext50_32x4d", "vgg16_bn")
    assert found == {(n, "l2"): 10 for n in ten} | {(n, "linf"): 5 for n in five} | {(n, "l2"): 2 for n in two}


def test_robust_networks_of_a_kind_are_less_accurate_the_larger_their_ball() -> None:
    """As in the tables of the README, apart from radii up to 0.05, which are within a percentage point of 0."""
    for of in {(match["architecture"], match["norm"]) for _, match in OTHERS}:
        cards = [card for card, match in OTHERS if (match["architecture"], match["norm"]) == of]
        by_radius = sorted(cards, key=lambda card: card.epsilon)
        clean = [card.expected.clean for card in by_radius if card.expected and card.epsilon not in (0.01, 0.03, 0.05)]
        assert clean == sorted(clean, reverse=True), of


def test_a_robust_vit_and_a_robust_convnext_are_known() -> None:
    cards = [card for card in RELEASED if card.name.startswith("ares_")]
    assert {card.architecture for card in cards} == {"timm.vit_small_patch16_224", "timm.convnext_small"}
    assert {(card.constraint, card.epsilon) for card in cards} == {(Constraint.LINF, 4 / 255)}
    assert all("not stated" in card.licence for card in cards)


@pytest.mark.parametrize("card", RELEASED, ids=lambda card: card.name)
def test_published_sources_have_a_known_architecture(card: SourceCard) -> None:
    assert card.architecture in PACKAGED.architectures


@pytest.mark.parametrize(
    "change",
    [
        {"random": True},
        {"release": None},
        {"pretrain": {"seed": 1, "epochs": 1, "steps": 1}},
        {"release": {"file": "a", "format": "robustness", "urls": [], "sha256": "0676ba61"}},
    ],
)
def test_cards_that_cannot_be(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SourceCard.model_validate(PACKAGED.source("l2_eps3").model_dump() | change)


def test_one_step_training_follows_section_7() -> None:
    """A.10: PGD(1) from a zero start with step 2 epsilon."""
    threat = spec_of_source(PACKAGED.source("fmnist_pgd1_l2_eps1"), PACKAGED).threat
    assert (threat.steps, threat.step_size, threat.epsilon) == (1, 2.0, 1.0)


# --- the bundled sources; each of these fails until a source's weights and card are in the package ---


def card_of(name: str) -> dict[str, Any]:
    text = (bundled_directory() / f"{name}.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def pgd20(card: dict[str, Any], constraint: str, epsilon: float) -> float:
    """Return a card's PGD(20) accuracy in one ball."""
    (found,) = [
        attack["accuracy"]
        for attack in card["adversarial_accuracy"]
        if (attack["constraint"], attack["epsilon"], attack["steps"]) == (constraint, epsilon, 20)
    ]
    return float(found)


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_weights_are_those_of_their_card(name: str) -> None:
    path = bundled_directory() / f"{name}.safetensors"
    assert card_of(name)["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert card_of(name)["name"] == name
    assert packaged_weights(name).sha256 == card_of(name)["sha256"]


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_cards_name_the_job_of_the_registry(name: str) -> None:
    card, spec = card_of(name), spec_of_source(PACKAGED.source(name), PACKAGED)
    assert PretrainSpec.model_validate(card["spec"]) == spec
    assert card["trial_id"] == spec.trial_id
    assert card["command"].startswith(f"deltasweep models train {name}")
    assert card["seed"] == spec.seed
    assert card["dataset_sha256"] == PACKAGED.dataset("fmnist").sha256
    assert len(card["training"]) == spec.epochs


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_weights_fit_their_architecture(name: str) -> None:
    tensors = load_file(bundled_directory() / f"{name}.safetensors")
    expected = built(PACKAGED.source(name).architecture, 10).state_dict()
    assert {key: tensor.shape for key, tensor in tensors.items()} == {k: t.shape for k, t in expected.items()}
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_bundled_sources_differ() -> None:
    assert len({card_of(name)["sha256"] for name in BUNDLED}) == len(BUNDLED)


@pytest.mark.parametrize(("name", "least"), [("fmnist_natural", 89), ("fmnist_l2_eps1", 82)])
def test_bundled_sources_are_accurate(name: str, least: float) -> None:
    assert card_of(name)["clean_accuracy"] >= least


PGD_TRAINED = [name for name in BUNDLED if PACKAGED.source(name).constraint in (Constraint.L2, Constraint.LINF)]


@pytest.mark.parametrize("name", PGD_TRAINED)
def test_bundled_robust_sources_are_robust(name: str) -> None:
    """At its own radius, the accuracy under PGD(20) is at least 20 points higher than the natural source's."""
    source = PACKAGED.source(name)
    own, natural = (pgd20(card_of(card), source.constraint, source.epsilon) for card in (name, "fmnist_natural"))
    assert own >= natural + 20


def test_the_source_trained_in_low_frequencies_is_robust_in_them() -> None:
    """PGD(20) in its own ball, on the whole test set; the attack is that of the catalogue's card."""
    card, source = card_of("fmnist_pgd1_fourier_eps1"), PACKAGED.source("fmnist_pgd1_fourier_eps1")
    (own,) = [attack for attack in card["adversarial_accuracy"] if attack["constraint"] == "fourier"]
    assert (tuple(own["band"]), own["epsilon"], own["steps"]) == (source.band, source.epsilon, 20)
    assert card["clean_accuracy"] > own["accuracy"] > 82


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_cards_say_the_clean_accuracy_that_is_on_record(name: str) -> None:
    """On the card's own device kind, with its own torch; ``tests/golden`` measures it on this one."""
    card = card_of(name)
    versions = tuple(card["packages"][package] for package in ("torch", "torchvision"))
    recorded = [row for row in rows(f"clean accuracy, {name}") if row.versions == versions]
    (row,) = [row for row in recorded if _digests(row.device_kind) <= _digests(card["device_kind"])]
    assert row.values["clean_accuracy"] == [card["clean_accuracy"]]


def _digests(device_kind: str) -> set[str]:
    """Return a device kind's name and the digests of what it covers; training covers more than measuring."""
    name, _, digests = device_kind.partition(" (probe ")
    return {name, *digests.removesuffix(")").split(", ")}
