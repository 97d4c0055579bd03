"""``deltasweep models``: what is printed, exit codes, and what is left on the machine."""

import hashlib
import re
from pathlib import Path

import pytest
import torch

from jobs import source_check
from jobs.data.datasets import Dataset
from jobs.home import weights_directory
from jobs.weights import SourceWeights, load_source
from tests.jobs.mirrors import mirror
from tests.jobs.released import RunsCode, attacker_state, register, resnet_of, save_robustness
from tests.orchestrator.support import Command

STUDY = """
name: mine
grid: {source: [fmnist_natural, random_init_resnet35-w8, tiny, pgd1_l2_eps3], dataset: [digits], blocks: [0]}
schedule:
  - {images: [20], epochs: 1, seeds: 1, evaluate_every: 1}
"""


@pytest.fixture
def deltasweep(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    folder = tmp_path / "work"
    folder.mkdir()
    load_source.cache_clear()
    return Command(folder, capsys, monkeypatch)


@pytest.fixture
def file(weights: SourceWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of the source ``tiny``, which the registry has."""
    register(monkeypatch)
    return save_robustness(tmp_path / "tiny.pt", attacker_state(resnet_of(weights.tensors)))


def line_of(name: str, text: str) -> str:
    (line,) = [line for line in text.splitlines() if line.split()[:1] == [name]]
    return line


def test_list_says_what_is_here(deltasweep: Command, file: Path) -> None:
    before = deltasweep("models", "list").out
    assert "part of the package" in line_of("fmnist_natural", before)
    assert "needs no file" in line_of("random_init", before)
    assert "missing: fetch it" in line_of("tiny", before)
    assert "missing: train it" in line_of("gaussian_l2_eps3", before)
    assert deltasweep("models", "convert", str(file), "--as", "tiny").code == 0
    assert "converted" in line_of("tiny", deltasweep("models", "list").out)


def test_convert(deltasweep: Command, file: Path) -> None:
    result = deltasweep("models", "convert", str(file), "--as", "tiny")
    assert result.code == 0
    assert str(weights_directory() / "tiny.safetensors") in result.out
    assert f"A robustness checkpoint, sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}" in result.out
    assert "no digest was known: this file is trusted on first use" in result.out


def test_convert_refuses_code(deltasweep: Command, file: Path, tmp_path: Path) -> None:
    torch.save({"model": RunsCode(tmp_path / "it-ran")}, file)
    result = deltasweep("models", "convert", str(file), "--as", "tiny")
    assert result.code == 2
    assert "could run code on this machine; it was refused" in result.message
    assert "Traceback" not in result.message
    assert not (tmp_path / "it-ran").exists()
    assert not weights_directory().exists()


def test_fetch(deltasweep: Command, file: Path) -> None:
    with mirror(files={"tiny.pt": file.read_bytes()}) as server:
        first = deltasweep("models", "fetch", "tiny", "--mirror", server.url)
        again = deltasweep("models", "fetch", "tiny", "--mirror", server.url)
    assert (first.code, again.code) == (0, 0)
    assert "tiny: fetched and converted" in first.out
    assert "tiny: is here already" in again.out
    assert f"sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}; no digest was known" in first.out
    assert len(server.asked) == 1


def test_fetch_for_a_study(deltasweep: Command, file: Path) -> None:
    """What is published is fetched; what has to be trained is said."""
    (deltasweep.folder / "mine.yaml").write_text(STUDY, encoding="utf-8")
    with mirror(files={"tiny.pt": file.read_bytes()}) as server:
        result = deltasweep("models", "fetch", "--study", "mine.yaml", "--mirror", server.url)
    assert result.code == 2
    assert [path for path, _ in server.asked] == ["/tiny.pt"]
    assert "tiny: fetched and converted" in result.out
    assert "pgd1_l2_eps3 is not published; make it with: deltasweep models train pgd1_l2_eps3" in result.message
    assert "fmnist" not in result.out


def test_fetch_for_a_study_that_lacks_nothing(deltasweep: Command) -> None:
    result = deltasweep("models", "fetch", "--study", "demo")
    assert result.code == 0
    assert "All sources of demo are on this machine" in result.out


@pytest.mark.parametrize("arguments", [[], ["natural", "--study", "demo"]])
def test_fetch_takes_names_or_a_study(deltasweep: Command, arguments: list[str]) -> None:
    result = deltasweep("models", "fetch", *arguments)
    assert result.code == 2
    assert "fetch takes the names of sources (see `deltasweep models list`), or --study STUDY" in result.message


def test_one_source_that_fails_does_not_hold_up_the_others(deltasweep: Command, file: Path) -> None:
    with mirror(files={"tiny.pt": file.read_bytes()}) as server:
        result = deltasweep("models", "fetch", "sin", "tiny", "--mirror", server.url)
    assert result.code == 3
    assert "tiny: fetched and converted" in result.out
    assert "resnet50_train_60_epochs-c8e5653e.pth.tar could not be downloaded" in result.message


def test_fetch_from_nowhere(deltasweep: Command, file: Path) -> None:
    result = deltasweep("models", "fetch", "tiny")
    assert result.code == 3
    assert "tiny.pt could not be downloaded" in result.message
    assert "Check the network or name another mirror" in result.message


def test_check_that_agrees_and_that_does_not(
    deltasweep: Command, file: Path, few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    deltasweep("models", "convert", str(file), "--as", "tiny")
    monkeypatch.setattr(source_check, "load_dataset", lambda *_: few_digits)
    unsaid = deltasweep("models", "check", "tiny")
    assert unsaid.code == 0
    assert "nothing is said of it" in unsaid.out
    found = re.search(r"clean: measured ([\d.]+) % .*: nothing to compare with", unsaid.out)
    assert found
    register(monkeypatch, expected={"clean": float(found[1]), "origin": "Table 9"})
    right = deltasweep("models", "check", "tiny", "--images", "32")
    assert right.code == 0
    assert "tiny, expected: Table 9" in right.out
    assert re.search(r"measured [\d.]+ % \(32 of 797 images, 99% interval [\d.]+ to [\d.]+\): agrees", right.out)
    register(monkeypatch, expected={"clean": 99, "origin": "Table 9"})
    wrong = deltasweep("models", "check", "tiny", "--images", "32")
    assert wrong.code == 1
    assert "clean: expected 99.00 %" in wrong.out
    assert "DOES NOT AGREE" in wrong.out


def test_check_under_an_attack(
    deltasweep: Command, file: Path, few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    deltasweep("models", "convert", str(file), "--as", "tiny")
    monkeypatch.setattr(source_check, "load_dataset", lambda *_: few_digits)
    arguments = ("--constraint", "linf", "--epsilon", "4/255", "--steps", "2", "--images", "16")
    result = deltasweep("models", "check", "tiny", *arguments)
    assert result.code == 0
    assert "PGD(2), linf 0.01569: measured" in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fmnist_natural", "--constraint", "l2"], "an attack has a --constraint and an --epsilon"),
        (["fmnist_natural", "--constraint", "l2", "--epsilon", "0"], "epsilon is a number above 0"),
        (["random_init"], "there is nothing to check"),
        (["natural"], "get them with: deltasweep models fetch natural"),
        (["nat"], "unknown source 'nat'"),
    ],
)
def test_checks_that_cannot_be(deltasweep: Command, arguments: list[str], message: str) -> None:
    result = deltasweep("models", "check", *arguments)
    assert result.code == 2
    assert message in result.message
