"""The study files of examples/: they are valid, have the trials that they state, and describe real images."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from jobs.results import open_store, read_trials
from jobs.study.expand import expand
from orchestrator.study.load import load_study
from tests.orchestrator.support import Command

EXAMPLES = Path(__file__).parents[2] / "examples"
STUDIES = sorted(EXAMPLES.glob("*.yaml"))


def test_there_are_three() -> None:
    assert [path.stem for path in STUDIES] == ["contrasts-and-attacks", "first-sweep", "own-images"]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_is_valid_and_has_the_trials_that_its_comment_states(path: Path) -> None:
    study = load_study(str(path))
    assert study.name == path.stem
    (stated,) = re.findall(r"^# (\d+) trials:", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(expand(study)) == int(stated)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_commands_of_the_comment_name_this_file(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = re.findall(r"examples/[\w.-]+", text)
    assert f"examples/{path.name}" in named
    assert [name for name in named if not (EXAMPLES.parent / name).is_file()] == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The image folder that the example's comment says how to write."""
    path = tmp_path / "three-digits"
    subprocess.run([sys.executable, str(EXAMPLES / "make_image_folder.py"), str(path)], check=True)
    return path


@pytest.fixture
def deltasweep(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(tmp_path, capsys, monkeypatch)


def test_the_card_of_own_images_is_what_describe_prints(folder: Path, deltasweep: Command) -> None:
    done = deltasweep("data", "describe", str(folder), "--name", "three-digits")
    assert (done.code, done.message) == (0, "")
    described = yaml.safe_load(done.out)["datasets"]
    written = yaml.safe_load((EXAMPLES / "own-images.yaml").read_text(encoding="utf-8"))["datasets"]
    assert described["three-digits"].pop("folder") == str(folder)
    assert written["three-digits"].pop("folder") == "/data/three-digits"
    assert described == written


def test_own_images_are_trained_on(folder: Path, deltasweep: Command, tmp_path: Path) -> None:
    text = (EXAMPLES / "own-images.yaml").read_text(encoding="utf-8")
    mine = tmp_path / "own-images.yaml"
    mine.write_text(text.replace("/data/three-digits", str(folder)), encoding="utf-8")
    spec = next(iter(expand(load_study(str(mine)))))
    done = deltasweep("run", str(mine), "--trial", spec.trial_id, "--results", "root")
    assert done.code == 0, done.message
    rows = read_trials(open_store(tmp_path / "root"), "finetune", ["trial_id", "epoch"]).to_pydict()
    assert (set(rows["trial_id"]), rows["epoch"]) == ({spec.trial_id}, [1, 5, 8])


def test_other_images_are_refused(folder: Path, deltasweep: Command, tmp_path: Path) -> None:
    """The digest of the card is of these images alone."""
    shutil.copy(folder / "train" / "zero" / "000.pgm", folder / "train" / "one" / "000.pgm")
    text = (EXAMPLES / "own-images.yaml").read_text(encoding="utf-8")
    mine = tmp_path / "own-images.yaml"
    mine.write_text(text.replace("/data/three-digits", str(folder)), encoding="utf-8")
    spec = next(iter(expand(load_study(str(mine)))))
    done = deltasweep("run", str(mine), "--trial", spec.trial_id, "--results", "root")
    assert done.code != 0
    assert "three-digits" in done.message
