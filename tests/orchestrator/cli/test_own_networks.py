"""``models describe``, and the option ``--builder`` of every command that builds a network."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from jobs.catalog.architecture_files import card_text
from jobs.catalog.catalog import PACKAGED
from jobs.networks.builders import built
from jobs.study.expand import expand
from orchestrator.cli.architectures import write_card
from orchestrator.ray_tune import submit
from orchestrator.study.load import load_study, parse_study
from tests.jobs.own_networks import BUILDER, MY_NET, NAME, changed
from tests.orchestrator.support import Command, Result

pytestmark = pytest.mark.usefixtures("without_ray", "short_tests")

STUDY = """\
name: own
architectures: {mine: mine.yaml}
sources:
  drawn: &drawn
    architecture: mine
    trained_on: digits
    constraint: none
    epsilon: 0
    mean: [0.305, 0.305, 0.305]
    std: [0.3753, 0.3753, 0.3753]
    random: true
  loaded:
    <<: *drawn
    random: false
    weights: loaded.pt
    weights_sha256: SHA256
  trained:
    <<: *drawn
    random: false
    pretrain: {seed: 1, epochs: 1, steps: 0}
grid: {source: [drawn, loaded], dataset: [digits], blocks: [1]}
schedule:
  - {images: [30], epochs: 1, seeds: 1, evaluate_every: 1}
"""


@pytest.fixture
def folder(deltasweep: Command) -> Iterator[Path]:
    """The working folder, with a study and all of its files in a folder of their own."""
    study = deltasweep.folder / "study"
    study.mkdir()
    (study / NAME).write_text(MY_NET)
    torch.save(built(BUILDER, 10, 1, MY_NET).model.state_dict(), study / "loaded.pt")
    sha256 = hashlib.sha256((study / "loaded.pt").read_bytes()).hexdigest()
    (study / "own.yaml").write_text(STUDY.replace("SHA256", sha256))
    assert (
        deltasweep("models", "describe", f"study/{BUILDER}", "--image-size", "32", "--out", "study/mine.yaml").code == 0
    )
    yield deltasweep.folder
    shutil.rmtree(study)


def refused(result: Result, *values: str, code: int = 2) -> None:
    assert result.code == code
    assert len(result.message.splitlines()) == 1, result.message
    assert "Traceback" not in result.message
    assert [value for value in values if value not in result.message] == [], result.message


# --- describe ---


def test_describe_prints_the_packaged_card(deltasweep: Command) -> None:
    result = deltasweep("models", "describe", "torchvision:resnet18")
    assert result.code == 0
    assert result.out == card_text(PACKAGED.architecture("resnet18"))
    assert "Image size: 224 x 224 pixels (the size of its published weights)" in result.message
    assert "Counting part 10 of 10" in result.message


def test_describe_writes_a_file_and_prints_its_parts(deltasweep: Command) -> None:
    (deltasweep.folder / NAME).write_text(MY_NET)
    result = deltasweep("models", "describe", BUILDER, "--image-size", "32", "--as", "mine", "--out", "mine.yaml")
    assert result.code == 0
    rows = [line.split() for line in result.out.splitlines() if line.strip()]
    assert ["3", "blocks.0", "156", "0.0"] in rows
    assert ["1", "blocks.2", "156", "0.0"] in rows
    assert ["0", "fc", "5,000", "0.0"] in rows
    assert result.out.endswith("architectures:\n  mine: mine.yaml\n")
    card = yaml.safe_load((deltasweep.folder / "mine.yaml").read_text())
    assert (card["builder"], card["image_size"], len(card["blocks"])) == (BUILDER, 32, 3)
    again = deltasweep("models", "describe", f"./{BUILDER}", "--image-size", "64", "--out", "mine.yaml")
    assert again.code == 0
    assert again.out.endswith("architectures:\n  my_net.build: mine.yaml\n")
    assert yaml.safe_load((deltasweep.folder / "mine.yaml").read_text())["image_size"] == 64


def test_describe_without_a_size_says_which_it_takes(deltasweep: Command) -> None:
    (deltasweep.folder / NAME).write_text(MY_NET)
    result = deltasweep("models", "describe", BUILDER)
    assert "Image size: 224 x 224 pixels (by default)" in result.message
    assert yaml.safe_load(result.out)["image_size"] == 224


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        (["torchvision:resnet19"], ("torchvision:resnet19", "list_models")),
        (["resnet18"], ("'resnet18'", "torchvision:resnet18")),
        (["absent.py:build"], ("absent.py", "no builder file")),
        ([f"{NAME}:other"], ("function other", NAME)),
        ([BUILDER, "--as", "My Net"], ("'My Net'", "--as")),
        ([BUILDER, "--image-size", "32", "--out", "absent/mine.yaml"], ("absent/mine.yaml", "No such file")),
        ([BUILDER, "--image-size", "32", "--out", "."], ("written", "a folder")),
        ([BUILDER, "--image-size", "32", "--out", "notes.txt"], ("notes.txt", "another file")),
        (["torchvision:squeezenet1_0"], ("SqueezeNet", "Parts")),
        ([NAME], ("FILE.py:FUNCTION", NAME)),
        ([f"./{NAME}"], ("FILE.py:FUNCTION", NAME)),
        ([f"{NAME}:"], ("name of a function", NAME)),
        ([f"{NAME}:my function"], ("'my function'", NAME)),
        (["my net.py:build"], ("my net.py", "rename")),
    ],
)
def test_describe_refuses(arguments: list[str], values: tuple[str, ...], deltasweep: Command) -> None:
    (deltasweep.folder / NAME).write_text(MY_NET)
    (deltasweep.folder / "notes.txt").write_text("my notes")
    result = deltasweep("models", "describe", *arguments)
    refused(result._replace(message=result.message.splitlines()[-1]), *values)
    assert result.out == ""
    assert (deltasweep.folder / "notes.txt").read_text() == "my notes"


def test_a_study_with_a_card_in_it_is_not_replaced_by_a_card(deltasweep: Command) -> None:
    """Nor is a network counted before the file is looked at, which may take minutes."""
    file = deltasweep.folder / "own-study.yaml"
    text = "name: mine\narchitectures:\n  net:\n    builder: my_net.py:build\n    stem: {}\n    blocks: []\n"
    file.write_text(text)
    refused(deltasweep("models", "describe", "torchvision:resnet50", "--out", file.name), file.name, "another file")
    assert file.read_text() == text


def test_a_card_that_cannot_be_written_leaves_the_one_before(
    deltasweep: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (deltasweep.folder / NAME).write_text(MY_NET)
    arguments = ("models", "describe", BUILDER, "--image-size", "32", "--out", "kept.yaml")
    assert deltasweep(*arguments).code == 0
    before = (deltasweep.folder / "kept.yaml").read_text()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = deltasweep(*arguments)
    refused(result._replace(message=result.message.splitlines()[-1]), "No space left")
    assert (deltasweep.folder / "kept.yaml").read_text() == before
    assert sorted(path.name for path in deltasweep.folder.iterdir() if path.is_file()) == ["kept.yaml", NAME]


def test_a_card_is_not_written_into_what_another_process_left(tmp_path: Path) -> None:
    """One with the same number, killed or in another container."""
    left = tmp_path / f".card.yaml.{os.getpid()}"
    left.write_text("half")
    write_card("builder: a\n", tmp_path / "card.yaml")
    assert (left.read_text(), (tmp_path / "card.yaml").read_text()) == ("half", "builder: a\n")


def test_an_error_of_the_file_is_one_message(deltasweep: Command) -> None:
    (deltasweep.folder / NAME).write_text(changed("return Net(labels)", "return Net(labels, 3)"))
    result = deltasweep("models", "describe", BUILDER)
    refused(result._replace(message=result.message.splitlines()[-1]), "TypeError: ", f"({NAME}:21)")
    assert "Traceback" not in result.message


# --- --builder ---

NEEDED = f"--builder {NAME}"


def both(command: Command, *arguments: str) -> Result:
    """Call a command without the option, which it must ask for, and with it."""
    refused(command(*arguments), NEEDED)
    return command(*arguments, "--builder", f"study/{NAME}")


def test_launch_and_resume(deltasweep: Command, folder: Path) -> None:
    launched = both(deltasweep, "launch", "study/own.yaml", "--results", "root", "--max-trials", "1")
    assert "1 of 2 trials are done" in launched.out
    assert f"To resume: deltasweep resume --results root --study own --builder study/{NAME}" in launched.out
    assert "2 of 2 trials are done" in both(deltasweep, "resume", "--results", "root").out
    (folder / "study" / NAME).write_text(MY_NET + "# changed\n")
    changed_file = deltasweep("resume", "--results", "root", "--builder", f"study/{NAME}")
    refused(changed_file, NAME, hashlib.sha256(MY_NET.encode()).hexdigest())
    for verb in (["status"], ["verify"]):
        assert deltasweep(*verb, "--results", "root").code == 0  # they build no network


@pytest.mark.usefixtures("folder")
def test_run(deltasweep: Command) -> None:
    (trial, _) = [spec.trial_id for spec in _specs(deltasweep.folder / "study" / "own.yaml")]
    ended = both(deltasweep, "run", "study/own.yaml", "--trial", trial, "--results", "root")
    assert f"{trial}: committed" in ended.out


def _specs(path: Path) -> list[Any]:
    return list(expand(load_study(str(path))))


@pytest.mark.usefixtures("folder")
def test_every_command_that_trains_examines_the_network(deltasweep: Command) -> None:
    """Its file may have changed since it was described, in a way that its names and shapes do not tell."""
    file = deltasweep.folder / "study" / NAME
    file.write_text(changed("self.blocks(self.stem(x))", "self.blocks(self.stem(x) * 2)"))
    study = load_study(str(deltasweep.folder / "study" / "own.yaml"), [file])
    drawn = next(trial.trial_id for trial in expand(study) if "drawn" in trial.trial_id)
    for arguments in (
        ("run", "study/own.yaml", "--trial", drawn, "--results", "other-root"),
        ("models", "train", "trained", "--study", "study/own.yaml", "--out", "trained"),
    ):
        result = deltasweep(*arguments, "--builder", f"study/{NAME}")
        refused(result._replace(message=result.message.splitlines()[-1]), "bit for bit")
    assert not (deltasweep.folder / "other-root").exists()
    assert not (deltasweep.folder / "trained").exists()


@pytest.mark.usefixtures("folder")
def test_plan(deltasweep: Command) -> None:
    unasked = deltasweep("plan", "study/own.yaml")
    assert unasked.code == 0
    assert "measured here" not in unasked.out, "it would run the builder file"
    assert "measured here" in both(deltasweep, "plan", "study/own.yaml", "--measure").out


@pytest.mark.usefixtures("folder")
def test_models_train(deltasweep: Command) -> None:
    trained = both(deltasweep, "models", "train", "trained", "--study", "study/own.yaml", "--out", "weights")
    assert "trained.safetensors" in trained.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fetch", "loaded"], "loaded: converted"),
        (["convert", "study/loaded.pt", "--as", "loaded"], "Weights: "),
        (["check", "loaded", "--images", "10"], "measured"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_models_that_are_converted(arguments: list[str], words: str, deltasweep: Command) -> None:
    assert words in both(deltasweep, "models", *arguments, "--study", "study/own.yaml").out


@pytest.mark.usefixtures("folder")
def test_a_builder_file_goes_with_a_study(deltasweep: Command) -> None:
    for verb in (["fetch", "natural"], ["check", "natural"], ["train", "fmnist_natural"]):
        refused(deltasweep("models", *verb, "--builder", f"study/{NAME}"), "--study STUDY", "--builder")


@pytest.mark.parametrize("verb", ["launch", "resume"])
def test_a_submission_uploads_the_file(
    verb: str, folder: Path, deltasweep: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the study file, in which cards stand in place of their paths."""
    uploaded: dict[str, str] = {}
    sent: list[str] = []

    class Client:
        def submit_job(self, entrypoint: str, runtime_env: dict[str, Any], metadata: object) -> str:
            sent.append(entrypoint)
            uploaded.update({path.name: path.read_text() for path in Path(runtime_env["working_dir"]).iterdir()})
            return "job"

    monkeypatch.setattr(submit, "_client", lambda address: Client())
    monkeypatch.setattr(submit, "listen", lambda *_: SimpleNamespace(ending=submit.ListeningEnd.FINISHED, exit_code=0))
    study = ["study/own.yaml"] if verb == "launch" else []
    where = ["--submit", "--address", "http://127.0.0.1:8265", "--results", "s3://bucket/root"]
    result = deltasweep(verb, *study, *where, "--builder", f"study/{NAME}")
    assert result.code == 0
    assert uploaded.pop(NAME) == MY_NET
    assert sent[0].startswith(f"deltasweep {verb}" + (" study.yaml" if study else ""))
    assert f"--builder {NAME}" in sent[0]
    assert f"--builder study/{NAME}" in result.out  # in the command to resume from here
    if study:
        local = load_study(str(folder / "study" / "own.yaml"))
        assert parse_study(uploaded.pop("study.yaml"), "/elsewhere/study.yaml").digest == local.digest
    assert uploaded == {}
