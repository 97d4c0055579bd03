"""``deltasweep models``: what is printed, exit codes, and what is left on the machine."""

import hashlib
import re
from pathlib import Path

import pytest
import torch

from jobs import registry, source_check, source_training
from jobs.data.datasets import Dataset
from jobs.expansion import expand, sources_read
from jobs.home import weights_directory
from jobs.source_files import Standing, standing
from jobs.weights import SourceWeights, load_source
from orchestrator.study_files import load_study, packaged_studies
from tests.jobs.mirrors import mirror
from tests.jobs.released import RunsCode, attacker_state, register, resnet_of, save_robustness
from tests.orchestrator.support import Command

HERE = (Standing.BUNDLED, Standing.DRAWN)
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


def test_fetch_takes_names_or_a_study(deltasweep: Command) -> None:
    result = deltasweep("models", "fetch")
    assert result.code == 2
    assert "fetch takes the names of sources (see `deltasweep models list`), or --study STUDY" in result.message


OWN = """
name: own
sources:
  rob: &card
    architecture: resnet35-w8
    trained_on: digits
    constraint: l2
    epsilon: 1
    mean: [0.31, 0.32, 0.33]
    std: [0.21, 0.22, 0.23]
    release: {{file: tiny.pt, format: robustness, urls: ["{url}"]}}
  made:
    <<: *card
    mean: [0.305, 0.305, 0.305]
    std: [0.3753, 0.3753, 0.3753]
    constraint: none
    epsilon: 0
    release: null
    pretrain: {{seed: 1, epochs: 1, steps: 0}}
grid: {{source: [fmnist_natural, rob], dataset: [digits], blocks: [0]}}
schedule: [{{images: [20], epochs: 1, seeds: 1, evaluate_every: 1}}]
"""


@pytest.fixture
def own(deltasweep: Command, file: Path) -> str:
    """A study with sources of its own, one of which somebody publishes."""
    (deltasweep.folder / "own.yaml").write_text(OWN.format(url=file.as_uri()), encoding="utf-8")
    return "own.yaml"


def test_a_study_s_own_source_from_its_file_to_a_trial(deltasweep: Command, own: str) -> None:
    listed = deltasweep("models", "list", "--study", own).out
    assert "missing: fetch it" in line_of("rob", listed)
    assert "missing: train it" in line_of("made", listed)
    first = deltasweep("models", "fetch", "--study", own)
    assert (first.code, first.message) == (0, "")
    assert "rob: fetched and converted" in first.out
    assert "fetched" in line_of("rob", deltasweep("models", "list", "--study", own).out)
    assert "All sources of own.yaml are on this machine" in deltasweep("models", "fetch", "--study", own).out
    trial = expand(load_study(str(deltasweep.folder / own)))[-1].trial_id
    assert deltasweep("run", own, "--trial", trial, "--results", "root").code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fetch", "rob"), "rob: fetched and converted"),
        (("fetch", "rob", "rob"), "rob: fetched and converted"),
        (("convert", "FILE", "--as", "rob"), "A robustness checkpoint, sha256"),
    ],
)
def test_own_sources_by_name(deltasweep: Command, own: str, file: Path, arguments: tuple[str, ...], words: str) -> None:
    given = [str(file) if word == "FILE" else word for word in arguments]
    unknown = deltasweep("models", *given)
    assert unknown.code == 2
    assert "unknown source 'rob'" in unknown.message
    assert not (weights_directory() / "rob.safetensors").exists()
    result = deltasweep("models", *given, "--study", own)
    assert (result.code, result.message) == (0, "")
    assert result.out.count(words) == 1
    checked = deltasweep("models", "check", "rob", "--study", own, "--images", "8")
    assert checked.code == 0
    assert "clean: measured" in checked.out


@pytest.mark.parametrize(("name", "verb"), [("rob", "fetch"), ("made", "train")])
def test_what_is_advised_for_an_own_source_works(
    deltasweep: Command, own: str, name: str, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_training, "_measure", lambda _: {})  # a minute of attacks
    missing = deltasweep("models", "check", name, "--study", own)
    assert missing.code == 2
    command = missing.message.rsplit("get them with: deltasweep ", 1)[1]
    assert f"models {verb} {name} --study STUDY" in command
    assert deltasweep(*command.replace("STUDY", own).split()).code == 0
    assert deltasweep("models", "check", name, "--study", own, "--images", "8").code == 0


SECTIONS = {
    "grid": """
grid: {source: [tiny], dataset: [digits], blocks: [0]}
schedule: [{images: [20], epochs: 1, seeds: 1, evaluate_every: 1}]
""",
    "attack": "attack: {source: [tiny], dataset: [digits]}",
    "shape_bias": """
datasets: {mixed: {of: digits, cue_conflict: fourier}}
shape_bias: {source: [tiny], dataset: [mixed]}
""",
    "visualize": "visualize: {source: [tiny], dataset: digits, units: [0]}",
    "fine-tuned trials": """
grid: {source: [tiny], dataset: [digits], blocks: [0]}
schedule: [{images: [20], epochs: 1, seeds: 1, evaluate_every: 1}]
influence: {finetuned: {images: [20], seeds: 1}}
""",
}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_source_that_a_trial_reads_is_fetched(deltasweep: Command, file: Path, section: str) -> None:
    (deltasweep.folder / "some.yaml").write_text(f"name: some\n{SECTIONS[section]}\n", encoding="utf-8")
    with mirror(files={"tiny.pt": file.read_bytes()}) as server:
        result = deltasweep("models", "fetch", "--study", "some.yaml", "--mirror", server.url)
    assert (result.code, result.message) == (0, "")
    assert [path for path, _ in server.asked] == ["/tiny.pt"]


PAPERS = [name for name in packaged_studies() if name.startswith("paper")]


@pytest.mark.parametrize("study", PAPERS)
def test_a_packaged_study_s_sources_are_those_that_its_launch_looks_for(deltasweep: Command, study: str) -> None:
    """A cluster's setup relies on the exit code: nothing may be missing after it said that all is there."""
    loaded = load_study(study)
    with registry.using(loaded.cards):
        needed = {name for name in sources_read(loaded) if standing(registry.source(name)) not in HERE}
    with mirror() as server:
        result = deltasweep("models", "fetch", "--study", study, "--mirror", server.url)
    asked = {path.removeprefix("/") for path, _ in server.asked}
    published = {release.file for name in needed if (release := registry.source(name).release)}
    assert asked == published
    assert all(name in result.message for name in needed if registry.source(name).pretrain)
    assert (result.code != 0) == bool(needed)
    assert needed or "All sources of" in result.out


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
