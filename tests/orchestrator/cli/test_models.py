"""``deltasweep models``: its output, its exit codes, and the files it leaves on the machine."""

import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torchvision.models import ShuffleNet_V2_X1_0_Weights

from jobs.catalog.catalog import PACKAGED
from jobs.data.datasets import Dataset
from jobs.kinds.pretrain import check_source as check
from jobs.kinds.pretrain import train_source
from jobs.models.weight_files import Standing, standing
from jobs.models.weights import SourceWeights, load_source
from jobs.paths import weights_directory
from jobs.study.expand import expand, sources_read
from orchestrator.study.load import load_study
from orchestrator.study.packaged_studies import packaged_studies
from tests.jobs.mirrors import Mirror, mirror
from tests.jobs.released import RunsCode, attacker_state, register, resnet_of, save_robustness
from tests.jobs.support import built
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
    """A checkpoint of the source ``tiny``, which is in the catalogue."""
    register(monkeypatch)
    return save_robustness(tmp_path / "tiny.pt", attacker_state(resnet_of(weights.tensors)))


def line_of(name: str, text: str) -> str:
    (line,) = [line for line in text.splitlines() if line.split()[:1] == [name]]
    return line


def test_list_says_what_is_here(deltasweep: Command, file: Path) -> None:
    before = deltasweep("models", "list").out
    assert "part of the package" in line_of("fmnist_natural", before)
    assert "needs no file" in line_of("random_init", before)
    assert [line_of(name, before).split()[2] for name in ("fmnist_natural", "natural")] == ["32", "224"]
    assert "missing: fetch it" in line_of("tiny", before)
    assert "missing: train it" in line_of("gaussian_l2_eps3", before)
    assert deltasweep("models", "convert", str(file), "--as", "tiny").code == 0
    assert "converted" in line_of("tiny", deltasweep("models", "list").out)


def test_convert(deltasweep: Command, file: Path) -> None:
    result = deltasweep("models", "convert", str(file), "--as", "tiny")
    assert result.code == 0
    assert str(weights_directory() / "tiny.safetensors") in result.out
    assert f"Original: robustness checkpoint, sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}" in result.out
    assert "no digest was known: this file is trusted on first use" in result.out


def test_convert_refuses_code(deltasweep: Command, file: Path, tmp_path: Path) -> None:
    torch.save({"model": RunsCode(tmp_path / "it-ran")}, file)
    result = deltasweep("models", "convert", str(file), "--as", "tiny")
    assert result.code == 2
    assert "could execute code on this machine; it was refused" in result.message
    assert "Traceback" not in result.message
    assert not (tmp_path / "it-ran").exists()
    assert not weights_directory().exists()


def test_fetch(deltasweep: Command, file: Path) -> None:
    with mirror(files={"tiny.pt": file.read_bytes()}) as server:
        first = deltasweep("models", "fetch", "tiny", "--mirror", server.url)
        again = deltasweep("models", "fetch", "tiny", "--mirror", server.url)
    assert (first.code, again.code) == (0, 0)
    assert "tiny: fetched and converted" in first.out
    assert "tiny: already on this machine" in again.out
    assert f"sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}; no digest was known" in first.out
    assert len(server.asked) == 1


def test_fetch_for_a_study(deltasweep: Command, file: Path) -> None:
    """Published sources are fetched; those that have to be trained are reported."""
    (deltasweep.folder / "mine.yaml").write_text(STUDY, encoding="utf-8")
    with mirror(files={"tiny.pt": file.read_bytes()}) as server:
        result = deltasweep("models", "fetch", "--study", "mine.yaml", "--mirror", server.url)
    assert result.code == 2
    assert [path for path, _ in server.asked] == ["/tiny.pt"]
    assert "tiny: fetched and converted" in result.out
    assert "pgd1_l2_eps3 is not published; train it with: deltasweep models train pgd1_l2_eps3" in result.message
    assert "fmnist" not in result.out


def test_fetch_for_a_study_that_lacks_nothing(deltasweep: Command) -> None:
    result = deltasweep("models", "fetch", "--study", "demo")
    assert result.code == 0
    assert "All sources of demo are on this machine" in result.out


def test_fetch_takes_names_or_a_study(deltasweep: Command) -> None:
    result = deltasweep("models", "fetch")
    assert result.code == 2
    assert "expected source names or --study STUDY; got neither (see `deltasweep models list`)" in result.message


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
    """A study with its own sources, one of which is published."""
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
        (("convert", "FILE", "--as", "rob"), "Original: robustness checkpoint, sha256"),
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
    monkeypatch.setattr(train_source, "_measure", lambda _: {})  # takes a minute of attacks
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
    """A cluster's setup relies on the exit code: after success, no source may be missing."""
    loaded = load_study(study)
    needed = {name for name in sources_read(loaded) if standing(loaded.catalog.source(name)) not in HERE}
    with mirror() as server:
        result = deltasweep("models", "fetch", "--study", study, "--mirror", server.url)
    asked = {path.removeprefix("/") for path, _ in server.asked}
    published = {release.file for name in needed if (release := PACKAGED.source(name).release)}
    assert asked == published
    assert all(name in result.message for name in needed if PACKAGED.source(name).pretrain)
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
    assert "check the network or specify another mirror" in result.message


def test_check_that_agrees_and_that_does_not(
    deltasweep: Command, file: Path, few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    deltasweep("models", "convert", str(file), "--as", "tiny")
    monkeypatch.setattr(check, "load_dataset", lambda *_: few_digits)
    unsaid = deltasweep("models", "check", "tiny")
    assert unsaid.code == 0
    assert "no expected accuracy" in unsaid.out
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
    monkeypatch.setattr(check, "load_dataset", lambda *_: few_digits)
    arguments = ("--constraint", "linf", "--epsilon", "4/255", "--steps", "2", "--images", "16")
    result = deltasweep("models", "check", "tiny", *arguments)
    assert result.code == 0
    assert "PGD(2), linf 0.01569: measured" in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fmnist_natural", "--constraint", "l2"], "expected both --constraint and --epsilon"),
        (["fmnist_natural", "--constraint", "l2", "--epsilon", "0"], "epsilon as a number above 0"),
        (["random_init"], "there is nothing to check"),
        (["natural"], "get them with: deltasweep models fetch natural"),
        (["nat"], "unknown source 'nat'"),
    ],
)
def test_checks_that_cannot_be(deltasweep: Command, arguments: list[str], message: str) -> None:
    result = deltasweep("models", "check", *arguments)
    assert result.code == 2
    assert message in result.message


OWN_FILE = """
name: file
sources:
  mine:
    architecture: resnet35-w8
    trained_on: digits
    constraint: l2
    epsilon: 1
    mean: [0.31, 0.32, 0.33]
    std: [0.21, 0.22, 0.23]
    weights: ../tiny.pt
    weights_sha256: {sha256}
grid: {{source: [fmnist_natural, mine], dataset: [digits], blocks: [0]}}
schedule: [{{images: [20], epochs: 1, seeds: 1, evaluate_every: 1}}]
"""


@pytest.fixture
def own_file(deltasweep: Command, file: Path) -> str:
    """A study with a source in a checkpoint file beside the folder of the study."""
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    (deltasweep.folder / "file.yaml").write_text(OWN_FILE.format(sha256=sha256), encoding="utf-8")
    return "file.yaml"


def test_an_own_checkpoint_file_from_the_study_to_a_check(deltasweep: Command, own_file: str, file: Path) -> None:
    assert "a checkpoint file, converted when it is first used" in (
        " ".join(deltasweep("models", "list", "--study", own_file).out.split())
    )
    first = deltasweep("models", "fetch", "--study", own_file)
    assert (first.code, first.message) == (0, "")
    assert "mine: converted, " in first.out
    assert f"own file: robustness checkpoint, sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}" in first.out
    assert "All sources of file.yaml are on this machine" in deltasweep("models", "fetch", "--study", own_file).out
    file.unlink()
    assert "converted" in line_of("mine", deltasweep("models", "list", "--study", own_file).out)
    assert "mine: already on this machine" in deltasweep("models", "fetch", "mine", "--study", own_file).out
    checked = deltasweep("models", "check", "mine", "--study", own_file, "--images", "8")
    assert (checked.code, checked.message) == (0, "")
    assert "clean: measured" in checked.out


def test_check_converts_an_own_file(deltasweep: Command, own_file: str) -> None:
    checked = deltasweep("models", "check", "mine", "--study", own_file, "--images", "8")
    assert (checked.code, checked.message) == (0, "")
    assert len(list(weights_directory().glob("mine-*.safetensors"))) == 1


def test_an_own_file_that_is_elsewhere(deltasweep: Command, own_file: str, file: Path, tmp_path: Path) -> None:
    """On a machine without the file the study is planned, and what is advised there works."""
    copy = file.rename(tmp_path / "copy.pt")
    planned = deltasweep("plan", own_file)
    assert planned.code == 0
    assert f"The weights of mine are not on this machine: {file}" in " ".join(planned.out.split())
    assert "missing: convert it" in line_of("mine", deltasweep("models", "list", "--study", own_file).out)
    for verb in (("fetch", "--study", own_file), ("check", "mine", "--study", own_file)):
        missing = deltasweep("models", *verb)
        assert missing.code == 2
        assert str(file) in missing.message
    command = missing.message.rsplit("from elsewhere with: deltasweep ", 1)[1]
    assert deltasweep(*command.replace("FILE", str(copy)).replace("STUDY", own_file).split()).code == 0
    assert "not on this machine" not in deltasweep("plan", own_file).out
    assert deltasweep("models", "check", "mine", "--study", own_file, "--images", "8").code == 0


def test_an_own_file_that_is_damaged_is_converted_again(deltasweep: Command, own_file: str) -> None:
    deltasweep("models", "fetch", "--study", own_file)
    (path,) = weights_directory().glob("mine-*.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    load_source.cache_clear()
    damaged = deltasweep("models", "fetch", "mine", "--study", own_file)
    assert damaged.code == 2
    assert "--replace" in damaged.message
    again = deltasweep("models", "fetch", "mine", "--study", own_file, "--replace")
    assert (again.code, again.message) == (0, "")
    assert "mine: converted" in again.out


def test_another_file_than_the_study_s_is_not_converted(
    deltasweep: Command, own_file: str, weights: SourceWeights, tmp_path: Path
) -> None:
    torch.save(weights.tensors, tmp_path / "other.pt")
    result = deltasweep("models", "convert", str(tmp_path / "other.pt"), "--as", "mine", "--study", own_file)
    assert result.code == 2
    assert hashlib.sha256((tmp_path / "other.pt").read_bytes()).hexdigest() in result.message
    assert not list(weights_directory().glob("mine-*.safetensors"))


NAMED = "torchvision:shufflenet_v2_x1_0.IMAGENET1K_V1"
USES = """
name: by-name
grid: {source: [mine], dataset: [digits], blocks: [0]}
schedule: [{images: [20], epochs: 1, seeds: 1, evaluate_every: 1}]
"""


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A server of the file that torchvision's enumeration names."""
    file = io.BytesIO()
    torch.save(built("shufflenet_v2_x1_0", 1000).state_dict(), file)
    name = f"shufflenetv2_x1-{hashlib.sha256(file.getvalue()).hexdigest()[:10]}.pth"
    with mirror(files={name: file.getvalue()}) as server:
        monkeypatch.setattr(ShuffleNet_V2_X1_0_Weights.IMAGENET1K_V1.value, "url", f"{server.url}/{name}")
        yield server


def test_weights_by_name_from_the_command_to_a_study(deltasweep: Command, named: Mirror) -> None:
    """What is printed is copied to a study, which another machine fetches its sources by."""
    first = deltasweep("models", "fetch", NAMED, "--as", "mine")
    (sha256,) = [hashlib.sha256(data).hexdigest() for data in named.files.values()]
    assert (first.code, first.message) == (0, "")
    assert f"{NAMED}: fetched and converted, " in first.out
    assert f"published file: sha256 {sha256}; sha256 {sha256[:10]} (torchvision, in the file's name)" in first.out
    card = first.out.partition("For a study file:")[2]
    study = deltasweep.folder / "by-name.yaml"
    study.write_text(USES + card, encoding="utf-8")
    assert "fetched" in line_of("mine", deltasweep("models", "list", "--study", str(study)).out)
    assert "All sources of" in deltasweep("models", "fetch", "--study", str(study)).out
    for path in weights_directory().glob("*.safetensors"):
        path.unlink()
    assert "missing: fetch it" in line_of("mine", deltasweep("models", "list", "--study", str(study)).out)
    again = deltasweep("models", "fetch", "--study", str(study))
    assert (again.code, again.message) == (0, "")
    assert f"published file: sha256 {sha256}; sha256 as in the study" in again.out
    assert len(named.asked) == 2


def test_several_weights_by_name_are_one_section(deltasweep: Command, named: Mirror) -> None:
    result = deltasweep("models", "fetch", NAMED, "torchvision:nope.V1", "fmnist_natural")
    assert result.code == 2
    assert "torchvision:nope.V1" in result.message
    assert "fmnist_natural" in result.message
    assert result.out.count("sources:") == 1
    assert "shufflenet_v2_x1_0.imagenet1k_v1:" in result.out


@pytest.mark.parametrize("names", [["natural"], [NAMED, "timm:resnetv2_50"]])
def test_as_names_one_set_of_weights(names: list[str], deltasweep: Command) -> None:
    result = deltasweep("models", "fetch", *names, "--as", "mine")
    assert result.code == 2
    assert "--as" in result.message
    assert not weights_directory().exists()


def test_a_study_with_a_card_without_digest(deltasweep: Command) -> None:
    (deltasweep.folder / "by-name.yaml").write_text(
        USES
        + "sources: {mine: {architecture: shufflenet_v2_x1_0, trained_on: imagenet, constraint: none, epsilon: 0, "
        + f"mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], published: '{NAMED}'}}}}",
        encoding="utf-8",
    )
    result = deltasweep("plan", "by-name.yaml")
    assert result.code == 2
    assert f"deltasweep models fetch {NAMED}" in " ".join(result.message.split())
