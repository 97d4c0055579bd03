"""Study files that ``launch --submit`` uploads: whether the head node finds what they name. A real submission is in
tests/cluster.
"""

import json
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.data.datasets import cached_dataset
from jobs.errors import Code
from orchestrator.ray_tune import submit
from orchestrator.study.load import load_study, parse_study
from tests.jobs.data import made
from tests.orchestrator.support import Command

pytestmark = pytest.mark.usefixtures("without_ray", "short_tests")

STUDY = """
name: own
grid: {source: [fmnist_natural], dataset: [insects], blocks: [1]}
schedule: [{images: [3], epochs: 1, seeds: 1, evaluate_every: 1}]
"""

WEIGHTS = f"""
name: own
grid: {{source: [mine], dataset: [digits], blocks: [1]}}
schedule: [{{images: [10], epochs: 1, seeds: 1, evaluate_every: 1}}]
sources:
  mine:
    architecture: resnet18-w16
    trained_on: digits
    constraint: none
    epsilon: 0
    mean: [0.3, 0.3, 0.3]
    std: [0.4, 0.4, 0.4]
    weights: nets/mine.pt
    weights_sha256: {"a" * 64}
"""


@pytest.fixture
def head(deltasweep: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the head node's job, with what was uploaded."""
    folder = tmp_path / "head"
    folder.mkdir()

    class Client:
        def submit_job(self, entrypoint: str, runtime_env: dict[str, Any], metadata: object) -> str:
            for path in Path(runtime_env.get("working_dir", folder)).iterdir():
                (folder / path.name).write_bytes(path.read_bytes())
            return "job"

    monkeypatch.setattr(submit, "_client", lambda address: Client())
    monkeypatch.setattr(submit, "listen", lambda *_: SimpleNamespace(ending=submit.ListeningEnd.FINISHED, exit_code=0))
    return folder


def submitted(deltasweep: Command, study: str) -> None:
    where = ("--submit", "--address", "http://127.0.0.1:8265", "--results", "s3://bucket/root")
    result = deltasweep("launch", study, *where)
    assert result.code == 0, result.message


def with_images(deltasweep: Command) -> Path:
    """Write a study of the folder ``images`` beside it, by its relative path; return the study file."""
    images = made.write(deltasweep.folder / "study" / "insects", made.folder_files())
    described = deltasweep("data", "describe", str(images)).out
    assert f"folder: {images}" in described
    text = STUDY + described.replace(f"folder: {images}", "folder: insects")
    made.write(deltasweep.folder / "study", {"own.yaml": text.encode()})
    return deltasweep.folder / "study" / "own.yaml"


def test_an_image_folder_is_uploaded_with_its_absolute_path(deltasweep: Command, head: Path) -> None:
    file = with_images(deltasweep)
    submitted(deltasweep, "study/own.yaml")
    there, here = load_study(str(head / "study.yaml")), load_study(str(file))
    assert there.datasets["insects"].folder == str(file.parent / "insects")
    assert (there.digest, there.datasets) == (here.digest, here.datasets)
    assert parse_study((head / "study.yaml").read_text(), "/elsewhere/study.yaml").datasets == here.datasets


def test_the_head_node_reads_the_images_or_names_itself(deltasweep: Command, head: Path) -> None:
    """Its output is printed where the study was submitted, on a machine that has the images."""
    images = with_images(deltasweep).parent / "insects"
    submitted(deltasweep, "study/own.yaml")
    deltasweep.folder = head
    launched = deltasweep("launch", "study.yaml", "--results", "root", "--json")
    assert (launched.code, json.loads(launched.out)["done"]) == (0, 1)
    images.rename(images.with_name("elsewhere"))
    cached_dataset.cache_clear()
    result = deltasweep("launch", "study.yaml", "--results", "other", "--json")
    error = json.loads(result.message.splitlines()[-1])["error"]
    assert (result.code, error["code"], error["file"]) == (2, Code.MISSING_DATA.value, str(images))
    for words in (f"'insects' is not on {socket.gethostname()} ", str(images), "every machine reads it at this path"):
        assert words in error["message"]


def test_a_checkpoint_file_is_uploaded_with_its_absolute_path(deltasweep: Command, head: Path) -> None:
    made.write(deltasweep.folder / "study", {"own.yaml": WEIGHTS.encode()})
    submitted(deltasweep, "study/own.yaml")
    assert load_study(str(head / "study.yaml")).sources["mine"].weights == str(
        deltasweep.folder / "study" / "nets" / "mine.pt"
    )
    deltasweep.folder = head
    result = deltasweep("launch", "study.yaml", "--results", "root", "--json")
    error = json.loads(result.message.splitlines()[-1])["error"]
    assert (result.code, error["code"]) == (2, Code.MISSING_WEIGHTS.value)
    assert f"'mine' on {socket.gethostname()}; there is no file" in error["message"]


def test_a_study_without_own_files_is_uploaded_as_it_is(deltasweep: Command, head: Path) -> None:
    text = f"# a remark\n{STUDY.replace('insects', 'digits').replace('[3]', '[10]')}"
    made.write(deltasweep.folder, {"own.yaml": text.encode()})
    submitted(deltasweep, "own.yaml")
    assert (head / "study.yaml").read_text() == text


AT = ("--submit", "--address", "http://127.0.0.1:8265", "--results", "s3://bucket/root")


@pytest.mark.parametrize("verb", ["launch", "resume"])
@pytest.mark.parametrize(
    ("options", "key"),
    [
        (("--max-hours", "0.01"), "--max-hours"),
        (("--hang-after", "0"), "--hang-after"),
        (("--gpu", "X100"), "--gpu"),
        (("--max-cost", "-1"), "--max-cost"),
        (("--accept-numerics", "none"), "--accept-numerics"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_uploaded(
    verb: str, options: tuple[str, str], key: str, deltasweep: Command, head: Path
) -> None:
    result = deltasweep(verb, *(["demo"] if verb == "launch" else []), *AT, *options, "--json")
    error = json.loads(result.message)["error"]
    assert (result.code, result.out, error["key"]) == (2, "", key)
    assert list(head.iterdir()) == []


@pytest.mark.parametrize(("ending", "code"), [("DETACHED", 130), ("LOST", 3)])
def test_a_lost_connection_is_no_signal(
    ending: str, code: int, deltasweep: Command, head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = SimpleNamespace(ending=submit.ListeningEnd[ending], exit_code=None, message="the tunnel closed")
    monkeypatch.setattr(submit, "listen", lambda *_: heard)
    result = deltasweep("launch", "demo", *AT)
    assert result.code == code
    assert "continues to run" in result.out + result.message


def test_printed_commands_can_be_pasted(deltasweep: Command, head: Path) -> None:
    made.write(deltasweep.folder / "my nets", {"net.py": b"def tiny(): ...\n"})
    result = deltasweep("resume", *AT, "--study", "own", "--builder", "my nets/net.py")
    again = "deltasweep resume --submit --address http://127.0.0.1:8265 --results s3://bucket/root --study own"
    assert f"{again} --builder 'my nets/net.py'" in result.out + result.message
    assert "deltasweep status --watch --results s3://bucket/root --study own" in result.out + result.message
