"""Studies whose sources are the user's own checkpoint files: digests, paths, launches, records."""

import hashlib
import os
from pathlib import Path

import pytest
import torch
from rich.console import Console

from jobs.errors import Code, InvalidRequest, MissingData, ResultsConflict
from jobs.models.weight_files import Standing, standing
from jobs.models.weights import SourceWeights, load_source
from jobs.paths import weights_directory
from jobs.results import all_done, open_store
from jobs.study.expand import expand
from jobs.study.model import Study
from orchestrator.launching.launch import launch
from orchestrator.launching.local import run_locally
from orchestrator.study.history import recorded_study
from orchestrator.study.load import load_study, parse_study
from orchestrator.study.name_conflicts import require_same_names
from orchestrator.study.own_weights import absent_own_weights
from tests.jobs.support import make_weights
from tests.orchestrator.support import check, mistakes
from tests.support import refused

pytestmark = pytest.mark.usefixtures("without_ray", "short_tests")

STUDY = """\
name: own
sources:
  mine:
    architecture: resnet35-w8
    trained_on: own-photographs
    constraint: none
    epsilon: 0
    mean: [0.3, 0.3, 0.3]
    std: [0.4, 0.4, 0.4]
    weights: checkpoints/mine.pt
    weights_sha256: SHA256
grid: {source: [mine], dataset: [digits], blocks: [0]}
schedule:
  - {images: [30], epochs: 1, seeds: 1, evaluate_every: 1}
"""
KEY = "sources.mine.weights_sha256"


@pytest.fixture(autouse=True)
def _no_cache() -> None:
    load_source.cache_clear()


@pytest.fixture
def file(weights: SourceWeights, tmp_path: Path) -> Path:
    """A checkpoint of a network with seven labels."""
    path = tmp_path / "checkpoints" / "mine.pt"
    path.parent.mkdir()
    torch.save(make_weights(1, labels=7).tensors, path)
    return path


def sha256_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def written(folder: Path, text: str) -> str:
    (folder / "own.yaml").write_text(text, encoding="utf-8")
    return str(folder / "own.yaml")


def study_of(file: Path) -> Study:
    return load_study(written(file.parents[1], STUDY.replace("SHA256", sha256_of(file))))


def test_a_path_starts_in_the_folder_of_the_study_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = study_of(file)
    assert expected.sources["mine"].weights == str(file)
    monkeypatch.chdir(file.parent)
    assert load_study("../own.yaml") == expected
    monkeypatch.setenv("HOME", str(file.parents[1]))
    text = STUDY.replace("SHA256", sha256_of(file))
    for path in (str(file), "./checkpoints/../checkpoints/mine.pt", "~/checkpoints/mine.pt"):
        other = parse_study(text.replace("checkpoints/mine.pt", path), str(file.parents[1] / "own.yaml"))
        assert other == expected


def test_the_digest_is_required_and_the_error_says_it(file: Path) -> None:
    """The printed line, put into the file, is what was missing."""
    text = STUDY.replace("    weights_sha256: SHA256\n", "")
    path = written(file.parents[1], text)
    (found,) = mistakes(text, path)
    check(found, Code.MISSING_KEY, KEY, f"add the line weights_sha256: {sha256_of(file)}", line=3)
    line = f"    {found.message.partition('add the line ')[2]}"
    fixed = text.replace("weights: checkpoints/mine.pt\n", f"weights: checkpoints/mine.pt\n{line}\n")
    assert load_study(written(file.parents[1], fixed)) == study_of(file)


def test_a_file_that_has_changed_is_noticed_before_anything_runs(file: Path, weights: SourceWeights) -> None:
    text = STUDY.replace("SHA256", before := sha256_of(file))
    torch.save(weights.tensors, file)
    (found,) = mistakes(text, str(file.parents[1] / "own.yaml"))
    check(found, Code.OTHER_DIGEST, KEY, str(file), before, sha256_of(file), line=11)


def a_page(file: Path) -> None:
    file.write_text("<!DOCTYPE html><html>Sign in</html>", encoding="utf-8")


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def nothing(file: Path) -> None:
    file.unlink()


def a_dangling_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


def a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (a_page, Code.DAMAGED_WEIGHTS, "an HTML page"),
        (a_folder, Code.NO_SUCH_FILE, "a folder"),
        (nothing, Code.NO_SUCH_FILE, "weights_sha256"),
        (a_dangling_link, Code.NO_SUCH_FILE, "a link whose target does not exist"),
        (a_pipe, Code.NO_SUCH_FILE, "a named pipe"),
    ],
)
def test_what_is_no_checkpoint_is_said_instead_of_its_digest(make: object, code: Code, words: str, file: Path) -> None:
    assert callable(make)
    make(file)
    (found,) = mistakes(STUDY.replace("    weights_sha256: SHA256\n", ""), str(file.parents[1] / "own.yaml"))
    check(found, code, "sources.mine.weights", str(file), words, line=10)


@pytest.mark.parametrize(
    ("old", "new", "code", "key"),
    [
        ("SHA256", "abc", Code.WRONG_VALUE, KEY),
        ("SHA256", "5", Code.WRONG_VALUE, KEY),
        ("weights: checkpoints/mine.pt", "weights: 5", Code.WRONG_VALUE, "sources.mine.weights"),
        ("weights: checkpoints/mine.pt", "random: true", Code.WRONG_VALUE, "sources.mine"),
        (
            "weights: checkpoints/mine.pt",
            "weights: checkpoints/mine.pt\n    random: true",
            Code.WRONG_VALUE,
            "sources.mine",
        ),
    ],
)
def test_cards_with_mistakes(old: str, new: str, code: Code, key: str, file: Path) -> None:
    text = STUDY.replace(old, new).replace("SHA256", sha256_of(file))
    found = mistakes(text, str(file.parents[1] / "own.yaml"))
    assert (code, key) in [(one.code, one.place.key) for one in found]


@pytest.mark.parametrize("path", [r"a\0b.pt", r"\ud800.pt"])
def test_a_path_that_no_file_has(path: str, file: Path) -> None:
    """YAML can write characters that no operating system accepts."""
    text = STUDY.replace("checkpoints/mine.pt", f'"{path}"').replace("SHA256", sha256_of(file))
    found = mistakes(text, str(file.parents[1] / "own.yaml"))
    assert (Code.NO_SUCH_FILE, "sources.mine.weights") in [(one.code, one.place.key) for one in found]


def test_a_study_is_planned_where_the_file_is_not(file: Path) -> None:
    before = study_of(file)
    file.unlink()
    after = load_study(str(file.parents[1] / "own.yaml"))
    assert after == before
    assert len(expand(after)) == 1
    (line,) = absent_own_weights(after)
    assert "mine" in line
    assert str(file) in line
    assert absent_own_weights(load_study("demo")) == []


def test_a_launch_converts_the_file_and_says_how(file: Path, tmp_path: Path) -> None:
    study, store = study_of(file), open_store(str(tmp_path / "root"))
    console = Console(record=True, width=200)
    summary = launch(study, store, console)
    assert (summary.done, summary.failed) == (1, {})
    assert f"Converted the weights of mine: torchvision checkpoint, sha256 {sha256_of(file)}." in console.export_text()
    assert standing(study.sources["mine"]) is Standing.CONVERTED
    assert recorded_study(store, None) == study
    assert recorded_study(store, None).digest == study.digest


def test_one_trial_alone_converts_the_file_and_says_how(file: Path, tmp_path: Path) -> None:
    study, console = study_of(file), Console(record=True, width=200)
    run_locally(study, expand(study)[0].trial_id, open_store(str(tmp_path / "root")), console)
    assert "Converted the weights of mine: torchvision checkpoint" in console.export_text()


def test_a_launch_without_the_file_writes_nothing(file: Path, tmp_path: Path) -> None:
    study = study_of(file)
    file.unlink()
    with refused(Code.MISSING_WEIGHTS, file, "--study STUDY", kind=MissingData, file=file):
        launch(study, open_store(str(tmp_path / "root")), Console(quiet=True))
    assert not (tmp_path / "root").exists()


def test_a_resume_needs_no_file(file: Path, tmp_path: Path) -> None:
    """The converted weights stay on the machine, and a record is not compared with a file that has changed since."""
    study, store = study_of(file), open_store(str(tmp_path / "root"))
    launch(study, store, Console(quiet=True))
    file.write_bytes(b"something else")
    with pytest.raises(InvalidRequest):
        load_study(str(file.parents[1] / "own.yaml"))
    (trial,) = all_done(store)
    for path in (tmp_path / "root" / "trials").rglob("*.parquet"):
        path.unlink()
    again = recorded_study(store, None)
    assert launch(again, store, Console(quiet=True)).done == 1
    assert all_done(store) == {trial}


def test_another_file_under_the_name_is_refused_in_the_same_root(
    file: Path, weights: SourceWeights, tmp_path: Path
) -> None:
    """Before its file was converted, by the launch; afterwards, by every command, without torch."""
    store = open_store(str(tmp_path / "root"))
    launch(study_of(file), store, Console(quiet=True))
    torch.save(weights.tensors, file)
    text = STUDY.replace("SHA256", sha256_of(file)).replace("blocks: [0]", "blocks: [1]")
    other = load_study(written(file.parents[1], text))
    require_same_names(other, store)
    with refused(Code.OTHER_DIGEST, "'mine'", kind=ResultsConflict):
        launch(other, store, Console(quiet=True))
    with refused(Code.OTHER_DIGEST, "'mine'", kind=ResultsConflict):
        require_same_names(other, store)
    assert len(all_done(store)) == 1
    assert len(list(weights_directory().glob("mine-*.safetensors"))) == 2


def test_cards_without_weights_have_the_dump_that_they_had() -> None:
    """So digests of recorded studies stay the same."""
    dumped = parse_study(
        STUDY.replace("weights: checkpoints/mine.pt\n    weights_sha256: SHA256", "random: true"), "a.yaml"
    )
    assert not {"weights", "weights_sha256"} & dumped.model_dump(mode="json")["sources"]["mine"].keys()
