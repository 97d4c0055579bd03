"""Weights at rest, and what the cards of the bundled sources promise."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from jobs import registry
from jobs.errors import Code, DamagedFile, InvalidRequest, MissingData
from jobs.networks import BUILDERS
from jobs.source_files import bundled_directory, weights_path
from jobs.specs import Constraint, PretrainSpec
from jobs.weights import SourceWeights, load_source, write_source
from tests.golden.rows import rows
from tests.support import refused

BUNDLED = [name for name, card in registry.sources().items() if card.bundled]


@pytest.fixture(autouse=True)
def _no_cache() -> None:
    load_source.cache_clear()


@pytest.fixture
def written(weights: SourceWeights, tmp_path: Path) -> Path:
    """Weights of the source ``natural`` in this machine's directory; the tensors are the miniature's."""
    return write_source(tmp_path / "home" / "weights", "natural", weights.tensors, {"seed": 5})


# --- loading ---


def test_written_weights_load_bit_for_bit(written: Path, weights: SourceWeights) -> None:
    loaded = load_source("natural")
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
    assert load_source("natural").sha256 == hashlib.sha256(written.read_bytes()).hexdigest()


def test_unknown_source() -> None:
    with refused(Code.UNKNOWN_NAME, "'nat'", "fmnist_natural", " natural", kind=InvalidRequest, key="source"):
        load_source("nat")


def test_missing_weights(tmp_path: Path) -> None:
    path = tmp_path / "home" / "weights" / "l2_eps3.safetensors"
    values = ("'l2_eps3'", path, "deltasweep models fetch l2_eps3")
    with refused(Code.MISSING_WEIGHTS, *values, kind=MissingData, file=path):
        load_source("l2_eps3")


def test_weights_that_are_not_those_of_their_card(written: Path) -> None:
    data = bytearray(written.read_bytes())
    data[-1] ^= 1
    written.write_bytes(bytes(data))
    digests = (hashlib.sha256(data).hexdigest(), json.loads(written.with_suffix(".json").read_text())["sha256"])
    with refused(Code.DAMAGED_WEIGHTS, written, *digests, kind=DamagedFile, file=written):
        load_source("natural")


@pytest.mark.parametrize("data", [b"", b"not safetensors at all", b"\xff" * 100])
def test_a_file_that_is_not_safetensors(written: Path, data: bytes) -> None:
    written.with_suffix(".json").unlink()
    written.write_bytes(data)
    with refused(Code.DAMAGED_WEIGHTS, written, kind=DamagedFile, file=written):
        load_source("natural")


def test_weights_cut_off(written: Path) -> None:
    written.with_suffix(".json").unlink()
    written.write_bytes(written.read_bytes()[:-100])
    with refused(Code.DAMAGED_WEIGHTS, written, kind=DamagedFile, file=written):
        load_source("natural")


@pytest.mark.parametrize("text", ["", "{", '{"name": "natural"}', "[]"])
def test_a_card_that_cannot_be_read_is_named(written: Path, text: str) -> None:
    card = written.with_suffix(".json")
    card.write_text(text, encoding="utf-8")
    with refused(Code.DAMAGED_RECORD, card, kind=DamagedFile, file=card):
        load_source("natural")


def test_where_weights_lie(tmp_path: Path) -> None:
    assert weights_path("fmnist_natural") == bundled_directory() / "fmnist_natural.safetensors"
    assert weights_path("natural") == tmp_path / "home" / "weights" / "natural.safetensors"


# --- the registry's cards ---


def test_radii_are_fractions() -> None:
    assert registry.source("fmnist_linf_eps4").epsilon == 4 / 255
    assert registry.source("linf_eps8").epsilon == 8 / 255
    assert registry.source("l2_eps3").epsilon == 3


def test_registry_has_the_paper_s_and_the_miniature_s_sources() -> None:
    assert set(registry.sources()) >= {"natural", "l2_eps3", "linf_eps4", "linf_eps8"}
    constraints = {registry.source(name).constraint for name in BUNDLED}
    assert constraints == set(Constraint), "natural, L2, Linf, Gaussian and Fourier"
    one_step = [name for name in BUNDLED if (p := registry.source(name).pretrain) and p.steps == 1]
    assert one_step == ["fmnist_pgd1_l2_eps1", "fmnist_pgd1_fourier_eps1"]
    pixels, frequencies = (registry.source(name).pretrain_spec() for name in one_step)
    changes = {"constraint": Constraint.L2, "band": None}
    assert frequencies.threat.model_copy(update=changes) == pixels.threat, "they differ in the basis alone"
    assert frequencies.model_copy(update={"threat": pixels.threat}) == pixels


@pytest.mark.parametrize("name", [name for name, card in registry.sources().items() if card.pretrain])
def test_sources_trained_here_are_normalised_as_they_are_trained(name: str) -> None:
    card = registry.source(name)
    assert (card.mean, card.std) == registry.dataset(card.trained_on).channel_statistics()


def test_sources_from_elsewhere_have_no_pretraining() -> None:
    with refused(Code.WRONG_VALUE, "'natural'", "fmnist_natural, ", kind=InvalidRequest, key="source"):
        registry.source("natural").pretrain_spec()


IMAGENET = {"natural": 76.13, "l2_eps3": 57.90, "linf_eps4": 62.42, "linf_eps8": 47.91}


@pytest.mark.parametrize(("name", "accuracy"), IMAGENET.items())
def test_the_paper_s_sources_are_those_of_table_5(name: str, accuracy: float) -> None:
    card = registry.source(name)
    assert card.expected is not None
    assert (card.expected.clean, card.architecture, card.trained_on) == (accuracy, "resnet50", "imagenet")
    assert "Table 5" in card.expected.origin


def test_sources_trained_on_imagenet_follow_a_10() -> None:
    pgd, gaussian = (registry.source(name).pretrain_spec() for name in ("pgd1_l2_eps3", "gaussian_l2_eps3"))
    assert (pgd.threat.constraint, pgd.threat.epsilon, pgd.threat.steps, pgd.threat.step_size) == ("l2", 3, 1, 6)
    assert (gaussian.threat.constraint, gaussian.threat.epsilon) == ("gaussian", 3)
    for recipe in (pgd.recipe, gaussian.recipe):
        assert (recipe.learning_rate, recipe.batch_size, recipe.momentum, recipe.lr_decay) == (0.1, 128, 0.9, 0.1)


RELEASED = [card for card in registry.sources().values() if card.release]


def test_no_two_sources_are_one_file() -> None:
    """The hub's family has constraints and radii of the paper's sources, and is not them."""
    for what in ("file", "sha256", "urls"):
        values = [value for card in RELEASED if (value := getattr(card.release, what))]
        assert len(set(values)) == len(values), what


@pytest.mark.parametrize("card", RELEASED, ids=lambda card: card.name)
def test_published_sources_say_where_they_come_from(card: registry.SourceCard) -> None:
    assert card.release is not None
    assert card.expected is not None
    assert all(url.startswith("https://") and card.release.file in url for url in card.release.urls)
    assert (card.release.known_from is None) == (card.release.sha256 is None and card.release.sha256_prefix is None)
    assert card.licence
    assert registry.dataset(card.test_dataset).labels == 1000
    assert (card.mean, card.std) == registry.dataset("imagenet").channel_statistics()


HUB = [(card, match) for card in RELEASED if (match := re.fullmatch(r"hf_(l2|linf)_eps([\d.]+)", card.name))]


@pytest.mark.parametrize(("card", "match"), HUB, ids=[card.name for card, _ in HUB])
def test_the_hub_s_files_are_those_of_their_names(card: registry.SourceCard, match: re.Match[str]) -> None:
    """L-infinity radii are written in 255ths, with a decimal."""
    norm, radius = match[1], float(match[2])
    assert card.release is not None
    written = f"{radius:.1f}" if norm == "linf" else f"{radius:g}"
    assert card.release.file == f"resnet50_{norm}_eps{written}.ckpt"
    assert card.epsilon == (radius / 255 if norm == "linf" else radius)
    assert card.constraint == (norm if radius else "none")


def test_the_hub_s_family_is_whole() -> None:
    assert len(HUB) == 15


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
        registry.SourceCard.model_validate(registry.source("l2_eps3").model_dump() | change)


def test_one_step_training_follows_section_7() -> None:
    """A.10: PGD(1) from a zero start with step 2 epsilon."""
    threat = registry.source("fmnist_pgd1_l2_eps1").pretrain_spec().threat
    assert (threat.steps, threat.step_size, threat.epsilon) == (1, 2.0, 1.0)


# --- the bundled sources; each of these fails until weights and card of a source are in the package ---


def card_of(name: str) -> dict[str, Any]:
    text = (bundled_directory() / f"{name}.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def pgd20(card: dict[str, Any], constraint: str, epsilon: float) -> float:
    """A card's PGD(20) accuracy in one ball."""
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
    assert load_source(name).sha256 == card_of(name)["sha256"]


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_cards_name_the_job_of_the_registry(name: str) -> None:
    card, spec = card_of(name), registry.source(name).pretrain_spec()
    assert PretrainSpec.model_validate(card["spec"]) == spec
    assert card["trial_id"] == spec.trial_id
    assert card["command"].startswith(f"deltasweep models train {name}")
    assert card["seed"] == spec.seed
    assert card["dataset_sha256"] == registry.dataset("fmnist").sha256
    assert len(card["training"]) == spec.epochs


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_weights_fit_their_architecture(name: str) -> None:
    tensors = load_file(bundled_directory() / f"{name}.safetensors")
    expected = BUILDERS[registry.source(name).architecture](10).state_dict()
    assert {key: tensor.shape for key, tensor in tensors.items()} == {k: t.shape for k, t in expected.items()}
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_bundled_sources_differ() -> None:
    assert len({card_of(name)["sha256"] for name in BUNDLED}) == len(BUNDLED)


@pytest.mark.parametrize(("name", "least"), [("fmnist_natural", 89), ("fmnist_l2_eps1", 82)])
def test_bundled_sources_are_accurate(name: str, least: float) -> None:
    assert card_of(name)["clean_accuracy"] >= least


PGD_TRAINED = [name for name in BUNDLED if registry.source(name).constraint in (Constraint.L2, Constraint.LINF)]


@pytest.mark.parametrize("name", PGD_TRAINED)
def test_bundled_robust_sources_are_robust(name: str) -> None:
    """At its own radius, PGD(20) leaves at least 20 points more than of the natural source."""
    source = registry.source(name)
    own, natural = (pgd20(card_of(card), source.constraint, source.epsilon) for card in (name, "fmnist_natural"))
    assert own >= natural + 20


def test_the_source_trained_in_low_frequencies_is_robust_in_them() -> None:
    """PGD(20) in its own ball, of the whole test set; the attack is that of the registry's card."""
    card, source = card_of("fmnist_pgd1_fourier_eps1"), registry.source("fmnist_pgd1_fourier_eps1")
    (own,) = [attack for attack in card["adversarial_accuracy"] if attack["constraint"] == "fourier"]
    assert (tuple(own["band"]), own["epsilon"], own["steps"]) == (source.band, source.epsilon, 20)
    assert card["clean_accuracy"] > own["accuracy"] > 82


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_cards_say_the_clean_accuracy_that_is_on_record(name: str) -> None:
    """On the card's own kind of device, by its own torch; ``tests/golden`` measures it on this one."""
    card = card_of(name)
    own = (card["device_kind"], tuple(card["packages"][package] for package in ("torch", "torchvision")))
    (row,) = [row for row in rows(f"clean accuracy, {name}") if (row.device_kind, row.versions) == own]
    assert row.values["clean_accuracy"] == [card["clean_accuracy"]]
