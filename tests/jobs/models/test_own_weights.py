"""A study's own checkpoint files: converted when they are first used, under a name that says of what."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from jobs.catalog.catalog import Cards, Catalog
from jobs.catalog.source_card import Release, SourceCard
from jobs.errors import Code, DamagedFile, MissingData, StorageFailure
from jobs.models.conversion import about_original, convert_source
from jobs.models.own_weights import convert_own, load_any
from jobs.models.weight_files import Standing, read_card, standing, weights_path
from jobs.models.weights import SourceWeights, load_source
from jobs.paths import weights_directory
from tests.jobs.released import MEAN, STD, RunsCode, attacker_state, resnet_of, save_robustness
from tests.jobs.support import damage, make_weights
from tests.support import present, refused


@pytest.fixture(autouse=True)
def _no_cache() -> None:
    load_source.cache_clear()


def own(file: Path, **changes: Any) -> tuple[SourceCard, Catalog]:
    """Return the card of a source with this file, and a catalogue with it."""
    values = {
        "name": "mine",
        "architecture": "resnet35-w8",
        "trained_on": "digits",
        "constraint": "l2",
        "epsilon": 1,
        "mean": MEAN,
        "std": STD,
        "weights": str(file),
        "weights_sha256": hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "0" * 64,
        **changes,
    }
    card = SourceCard.model_validate(values)
    return card, Catalog(Cards(sources={"mine": card}))


def saved(tensors: dict[str, Tensor], path: Path) -> Path:
    torch.save(tensors, path)
    return path


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(one[key].equal(other[key]) for key in one)


def in_folder() -> list[str]:
    folder = weights_directory()
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock") if folder.exists() else []


def test_a_file_is_converted_once_when_it_is_used(weights: SourceWeights, tmp_path: Path) -> None:
    file = saved(weights.tensors, tmp_path / "mine.pt")
    card, catalog = own(file)
    assert standing(card) is Standing.AS_FILE
    assert same(load_any(card, catalog).tensors, weights.tensors)
    assert standing(card) is Standing.CONVERTED
    facts = present(read_card(weights_path(card)))
    assert (facts["name"], facts["original"]["file"]) == ("mine", "mine.pt")
    assert facts["original"]["sha256"] == card.weights_sha256
    assert facts["original"]["known_beforehand"] == "sha256 as in the study"
    file.unlink()
    load_source.cache_clear()
    assert same(load_any(card, catalog).tensors, weights.tensors)
    assert convert_own(card, catalog) is None


def test_the_name_of_the_converted_file_depends_on_all_that_was_compared(tmp_path: Path) -> None:
    card, _ = own(tmp_path / "a.pt")
    stems = {card.file_stem}
    for changes in (
        {"weights_sha256": "1" * 64},
        {"architecture": "resnet50"},
        {"mean": (0.1, 0.2, 0.3)},
        {"std": (0.1, 0.2, 0.3)},
        {"trained_on": "fmnist"},
        {"expected": {"clean": 50, "origin": "us", "dataset": "fmnist"}},
    ):
        stems.add(own(tmp_path / "a.pt", **changes)[0].file_stem)
    assert len(stems) == 6  # fmnist twice
    assert own(tmp_path / "a.pt", weights="/elsewhere/b.pt", licence="CC0", epsilon=2)[0].file_stem == card.file_stem


def test_two_studies_may_give_one_name_to_two_files(
    weights: SourceWeights, other_weights: SourceWeights, tmp_path: Path
) -> None:
    one, ones = own(saved(weights.tensors, tmp_path / "one.pt"))
    other, others = own(saved(other_weights.tensors, tmp_path / "other.pt"))
    for _ in range(2):
        assert same(load_any(one, ones).tensors, weights.tensors)
        assert same(load_any(other, others).tensors, other_weights.tensors)
        load_source.cache_clear()


def test_weights_of_another_study_under_the_name_of_the_converted_file_are_not_taken_for_it(
    weights: SourceWeights, other_weights: SourceWeights, tmp_path: Path
) -> None:
    """That name follows from the study, so a stranger's study can give it to a published source."""
    card, catalog = own(saved(weights.tensors, tmp_path / "mine.pt"))
    release = Release(file="theirs.pt", format="torchvision", urls=())
    theirs = card.model_copy(
        update={"name": card.file_stem, "weights": None, "weights_sha256": None, "release": release}
    )
    file = saved(other_weights.tensors, tmp_path / "theirs.pt")
    path = convert_source(file, theirs.name, Catalog(Cards(sources={theirs.name: theirs})))
    assert path == weights_path(card)
    values = (path, card.weights_sha256, hashlib.sha256(file.read_bytes()).hexdigest(), "--replace")
    with refused(Code.DAMAGED_WEIGHTS, *values, kind=DamagedFile, file=path):
        load_any(card, catalog)
    convert_own(card, catalog, replace=True)
    assert same(load_any(card, catalog).tensors, weights.tensors)


def test_processes_that_need_it_at_once_convert_it_once(weights: SourceWeights, tmp_path: Path) -> None:
    card, catalog = own(saved(weights.tensors, tmp_path / "mine.pt"))
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: convert_own(card, catalog), range(4)))
    assert [path for path in made if path] == [weights_path(card)]


def test_a_machine_without_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.pt"
    card, catalog = own(file)
    assert standing(card) is Standing.MISSING
    remedy = "deltasweep models convert FILE --as mine --study STUDY"
    with refused(
        Code.MISSING_WEIGHTS, file, weights_path(card), card.weights_sha256, remedy, kind=MissingData, file=file
    ):
        load_any(card, catalog)


def test_another_file_at_the_path_is_refused(
    weights: SourceWeights, other_weights: SourceWeights, tmp_path: Path
) -> None:
    file = saved(weights.tensors, tmp_path / "mine.pt")
    card, catalog = own(file)
    saved(other_weights.tensors, file)
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    with refused(Code.OTHER_DIGEST, file, found, card.weights_sha256, kind=MissingData, file=file):
        load_any(card, catalog)
    assert in_folder() == []


def test_a_copy_from_elsewhere(weights: SourceWeights, other_weights: SourceWeights, tmp_path: Path) -> None:
    """What the error advises on a machine without the file; only the file that the study means is accepted."""
    copy = saved(weights.tensors, tmp_path / "copy.pt")
    card, catalog = own(copy, weights="/nowhere/mine.pt")
    with refused(Code.OTHER_DIGEST, card.weights_sha256, kind=MissingData, file=tmp_path / "other.pt"):
        convert_source(saved(other_weights.tensors, tmp_path / "other.pt"), "mine", catalog)
    assert convert_source(copy, "mine", catalog) == weights_path(card)
    assert same(load_any(card, catalog).tensors, weights.tensors)


def test_converted_weights_that_are_damaged_are_noticed(weights: SourceWeights, tmp_path: Path) -> None:
    card, catalog = own(saved(weights.tensors, tmp_path / "mine.pt"))
    path = present(convert_own(card, catalog))
    damage(path, -10)
    with refused(Code.DAMAGED_WEIGHTS, path, "--replace", kind=DamagedFile, file=path):
        load_any(card, catalog)
    assert convert_own(card, catalog, replace=True) == path
    assert same(load_any(card, catalog).tensors, weights.tensors)


@pytest.mark.parametrize("save", [torch.save, save_file])
@pytest.mark.parametrize("width", [torch.float16, torch.bfloat16])
def test_half_precision_is_said(width: torch.dtype, save: Any, weights: SourceWeights, tmp_path: Path) -> None:
    half = {key: t.to(width) if t.is_floating_point() else t for key, t in weights.tensors.items()}
    save(half, tmp_path / "mine.pt")
    card, catalog = own(tmp_path / "mine.pt")
    path = present(convert_own(card, catalog))
    said = about_original(present(read_card(path))["original"])
    assert f"{str(width).removeprefix('torch.')} converted to float32" in said
    assert load_any(card, catalog).tensors["fc.weight"].equal(half["fc.weight"].float())


def test_a_checkpoint_of_robustness(weights: SourceWeights, tmp_path: Path) -> None:
    """Its normalizer is compared with the card's."""
    file = save_robustness(tmp_path / "mine.pt", attacker_state(resnet_of(weights.tensors)))
    assert same(load_any(*own(file)).tensors, weights.tensors)
    with refused(Code.DAMAGED_WEIGHTS, "new_mean", [0.5, 0.5, 0.5], kind=DamagedFile, file=file):
        load_any(*own(file, mean=(0.5, 0.5, 0.5)))


def test_nothing_in_the_file_is_run(tmp_path: Path) -> None:
    file = tmp_path / "mine.pt"
    torch.save({"model": RunsCode(tmp_path / "it-ran")}, file)
    with refused(Code.DAMAGED_WEIGHTS, "torch.save(", kind=DamagedFile, file=file):
        load_any(*own(file))
    assert not (tmp_path / "it-ran").exists()
    assert in_folder() == []


def test_a_network_with_other_labels(tmp_path: Path) -> None:
    file = saved(make_weights(1, labels=7).tensors, tmp_path / "mine.pt")
    with refused(Code.DAMAGED_WEIGHTS, "7 labels", "digits", "trained_on", kind=DamagedFile, file=file):
        load_any(*own(file))


def test_labels_of_an_unknown_dataset_are_those_of_the_file(tmp_path: Path) -> None:
    """Fine-tuning replaces the FC layer, so a user need not describe a dataset that no trial reads."""
    tensors = make_weights(1, labels=7).tensors
    prefixed = {f"net.{key}": tensor for key, tensor in tensors.items()}
    file = saved({"state_dict": prefixed}, tmp_path / "mine.pt")  # type: ignore[dict-item]
    assert same(load_any(*own(file, trained_on="own-photographs")).tensors, tensors)


@pytest.mark.parametrize("shape", [(10**9, 256), ()])
def test_labels_that_no_dataset_has(shape: tuple[int, ...], tmp_path: Path) -> None:
    """Four bytes can claim to be any number of labels."""
    tensors = dict(make_weights(1).tensors)
    tensors["fc.weight"] = torch.zeros(1).as_strided(shape, [0] * len(shape))
    file = saved(tensors, tmp_path / "mine.pt")
    with refused(Code.DAMAGED_WEIGHTS, "fc.weight", kind=DamagedFile, file=file):
        load_any(*own(file, trained_on="own-photographs"))


def test_a_folder_that_cannot_be_written(
    weights: SourceWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, catalog = own(saved(weights.tensors, tmp_path / "mine.pt"))
    (tmp_path / "home").write_text("a file", encoding="utf-8")
    monkeypatch.setenv("DELTASWEEP_HOME", str(tmp_path / "home"))
    with refused(Code.STORAGE, "$DELTASWEEP_HOME", kind=StorageFailure, file=weights_path(card)):
        load_any(card, catalog)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"random": True}, "weights and random"),
        ({"pretrain": {"seed": 1, "epochs": 1, "steps": 0}}, "pretrain and weights"),
        ({"weights": None}, "none of them"),
        ({"weights": None, "random": True}, "weights_sha256 only with weights"),
        ({"bundled": True}, "weights or bundled"),
        ({"weights_sha256": "abc"}, "weights_sha256"),
        ({"weights": ""}, "weights"),
    ],
)
def test_cards_that_cannot_be(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        own(tmp_path / "a.pt", **changes)
