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
