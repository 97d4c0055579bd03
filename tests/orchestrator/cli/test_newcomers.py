"""Mistakes of newcomers, as public trackers of similar tools have them: each ends in one line that says what to do.

The comments name the trackers' issues.
"""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import Code, InvalidRequest
from jobs.specs.section import Resources
from jobs.system.printable import printable
from orchestrator.ray_tune import tuner
from orchestrator.ray_tune.local_ray import require_own_packages
from tests.documentation import ROOT
from tests.orchestrator.support import Command
from tests.support import refused

STUDY = """\
name: mine
grid: {source: [fmnist_natural], dataset: [digits], blocks: [0]}
schedule: [{images: [20], epochs: 1, seeds: 1, evaluate_every: 1}]
"""


@pytest.fixture
def study(deltasweep: Command) -> Path:
    file = deltasweep.folder / "mine.yaml"
    file.write_text(STUDY, encoding="utf-8")
    return file


def one_line(deltasweep: Command, *arguments: str, code: int = 2) -> str:
    """Return the message of a command that must end in one line, without a traceback, and leave nothing behind."""
    before = sorted(deltasweep.folder.rglob("*"))
    result = deltasweep(*arguments)
    assert (result.code, result.out, result.message.count("\n")) == (code, "", 0), result.message
    assert "Traceback" not in result.message
    assert "bug" not in result.message
    assert sorted(deltasweep.folder.rglob("*")) == before
    return result.message


@pytest.mark.parametrize("text", ["raise RuntimeError('mine')\n", "x = 1\n"])
@pytest.mark.parametrize("name", ["jobs", "analysis"])
def test_an_own_file_with_the_name_of_a_package(name: str, text: str, tmp_path: Path) -> None:
    """ray-project/ray#10875: a script called ray.py."""
    (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    code = "import sys; sys.argv[:] = ['deltasweep', 'plan', 'demo']; from orchestrator.entry import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"{tmp_path / name}.py" in done.stderr
    assert "Fix: rename it" in done.stderr


@pytest.mark.parametrize("name", ["jobs.py", "analysis/__init__.py", "torch.py"])
def test_a_launch_from_a_folder_with_a_file_that_its_workers_would_import(name: str, tmp_path: Path) -> None:
    """The same, for a process that has joined Ray itself: workers import from the folder in which it runs."""
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("raise RuntimeError('mine')\n", encoding="utf-8")
    with refused(Code.WRONG_PLACE, file, "Fix: rename it", kind=InvalidRequest, file=file):
        require_own_packages(tmp_path)
    file.rename(file.with_name("other.py"))
    require_own_packages(tmp_path)
    require_own_packages(ROOT)


@pytest.mark.slow(60)
def test_files_beside_a_study_are_not_imported(tmp_path: Path) -> None:
    """Ray's workers would import them before installed packages; a stranger's folder may have any."""
    for name in ("safetensors.py", "PIL/__init__.py", "filelock.py", "jobs.py", "colorsys.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise RuntimeError('a stranger')\n", encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(STUDY, encoding="utf-8")
    code = "import sys; sys.argv[:] = ['deltasweep', 'launch', 'mine.yaml', '--results', 'root']; "
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"{code}from orchestrator.entry import main; main()"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "1 of 1 trials are done" in done.stderr + done.stdout


def test_tabs(deltasweep: Command, study: Path) -> None:
    """moraes/config#1, yaml/pyyaml#450."""
    study.write_text("name: mine\ngrid:\n\tsource: [fmnist_natural]\n", encoding="utf-8")
    message = one_line(deltasweep, "plan", "mine.yaml")
    assert "mine.yaml:3" in message
    assert "Fix: indent with spaces" in message


@pytest.mark.parametrize(
    ("written", "meant"),
    [("mine", "mine.yaml"), ("mine.yml", "mine.yaml"), ("mien.yaml", "mine.yaml"), ("dmeo", "demo")],
)
def test_a_name_that_is_nearly_right(written: str, meant: str, deltasweep: Command, study: Path) -> None:
    """hydra-ecosystem/hydra#1308 and #2889: a missing or another extension."""
    for verb in ("plan", "launch"):
        assert f"(did you mean {meant}?)" in one_line(deltasweep, verb, written, "--results", "root")


def test_a_quoted_number(deltasweep: Command, study: Path) -> None:
    """hiyouga/LlamaFactory#4014: 1e-3 read as text. YAML 1.2 reads it as a number; in quotes it is none."""
    study.write_text(STUDY + "recipe: {learning_rate: 1e-3}\n", encoding="utf-8")
    assert deltasweep("plan", "mine.yaml").code == 0
    study.write_text(STUDY + 'recipe: {learning_rate: "1e-3"}\n', encoding="utf-8")
    result = deltasweep("plan", "mine.yaml")
    (head, mistake) = result.message.splitlines()
    assert head == "deltasweep: mine.yaml: 1 mistake"
    assert mistake.endswith(
        "recipe.learning_rate: input should be a valid number; got '1e-3'. Fix: write 1e-3 without quotes"
    )


def test_a_tilde_that_the_shell_left_alone(
    deltasweep: Command, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """choosehappy/HistoQC#198: a folder called ~ appeared."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    study.rename(tmp_path / "home" / "mine.yaml")
    trial = deltasweep("trials", "list", "~/mine.yaml", "--ids").out.strip()
    assert trial.startswith("finetune-digits-")
    assert deltasweep("run", "~/mine.yaml", "--trial", trial, "--results=~/root").code == 0
    assert (tmp_path / "home" / "root" / "root.json").is_file()
    assert list(deltasweep.folder.iterdir()) == [], "no folder called ~"


def test_a_place_that_cannot_be_written(deltasweep: Command, study: Path) -> None:
    """wandb/wandb#1095."""
    message = one_line(deltasweep, "launch", "mine.yaml", "--results", "/proc/nowhere/root")
    assert "expected a writable results root; /proc/nowhere/root is not" in message
    assert "Fix: " in message


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_of_windows(encoding: str, deltasweep: Command, study: Path) -> None:
    """influxdata/telegraf#1378: a file saved by Notepad."""
    study.write_bytes(STUDY.replace("\n", "\r\n").encode(encoding))
    if encoding == "utf-8-sig":
        assert deltasweep("plan", "mine.yaml").code == 0
    else:
        assert "is in UTF-16. Fix: save it as UTF-8" in one_line(deltasweep, "plan", "mine.yaml")


def test_a_variable_that_names_a_cluster_of_yesterday(
    deltasweep: Command, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ray-project/ray#22413: nothing answers there, and nobody says so."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    message = one_line(deltasweep, "launch", "mine.yaml", "--results", "root", code=3)
    assert "no Ray cluster responds at 127.0.0.1:1" in message
    assert "$RAY_ADDRESS" in message


def test_more_than_any_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """ray-project/ray#17957: trials were pending for ever."""
    monkeypatch.setattr(tuner, "_nodes", lambda: [{"CPU": 4.0}])
    with refused(Code.CLUSTER_TOO_SMALL, "8", "4", "lower the study's resources", kind=InvalidRequest):
        tuner.share_of(Resources(cpu=8), lambda text: None)


def test_a_bucket_without_credentials(deltasweep: Command, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ray-project/ray#24184."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "false")
    message = one_line(deltasweep, "status", "--results", "s3://bucket/root", code=3)
    assert "s3://bucket/root" in message
    assert "Fix: " in message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--results", "root", "status"), "Options follow the verb"),
        (("status", "--result", "root"), "--results"),
        (("lunch", "demo"), "'launch'"),
        (("plan", "demo", "demo"), "unexpected extra argument"),
        (("launch", "demo"), "$DELTASWEEP_RESULTS"),
        (("launch", "mine.yaml", "--results", "root", "--max-trials", "0"), "--max-trials"),
    ],
)
def test_command_lines_that_are_nearly_right(
    arguments: tuple[str, ...], words: str, deltasweep: Command, study: Path
) -> None:
    """Usage and help are one line away, and the same mistake in JSON has the same exit code."""
    message = one_line(deltasweep, *arguments)
    assert words in message
    assert message.endswith("--help")
    error: Any = json.loads(deltasweep(*arguments, "--json").message)["error"]
    assert f"deltasweep: {error['message']}" == message


@pytest.mark.parametrize(
    "arguments",
    [
        ("data", "describe", "~nobody-here/photos"),
        ("data", "split", "~nobody-here/photos", "--out", "out"),
        ("data", "split", "photos", "--out", "~nobody-here/out"),
        ("studies", "new", "~nobody-here/first.yaml"),
        ("plan", "~nobody-here/mine.yaml"),
        ("plan", "mine.yaml", "--gpus", "~nobody-here/gpus.yaml"),
        ("plan", "mine.yaml", "--builder", "~nobody-here/nets.py"),
        ("models", "train", "fmnist_natural", "--out", "~nobody-here/weights"),
        ("models", "check", "fmnist_natural", "--data", "~nobody-here/images"),
        ("models", "describe", "torchvision:resnet18", "--out", "~nobody-here/card.yaml"),
        ("status", "--results", "~nobody-here/root"),
    ],
)
def test_the_home_of_a_user_who_does_not_exist(arguments: tuple[str, ...], deltasweep: Command, study: Path) -> None:
    assert "expected the home directory of a user of this machine; got ~nobody-here" in one_line(deltasweep, *arguments)
    assert [path.name for path in deltasweep.folder.iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize("folder", ["my studies", os.fsdecode(b"\xe9tudes")])
def test_a_folder_with_a_space_and_one_in_latin_1(folder: str, deltasweep: Command) -> None:
    (deltasweep.folder / folder).mkdir()
    file = f"{folder}/first.yaml"
    result = deltasweep("studies", "new", file)
    assert result.code == 0, result.message
    command = f"deltasweep plan '{printable(file)}'"
    assert command in result.out + result.message
    assert command in (deltasweep.folder / file).read_text(encoding="utf-8")
    assert deltasweep("plan", file).code == 0


def test_a_study_file_is_written_whole_or_not_at_all(deltasweep: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full."""
    real_open = Path.open

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def open_on_a_full_disk(path: Path, *arguments: Any, **named: Any) -> Any:
        file = real_open(path, *arguments, **named)
        monkeypatch.setattr(file, "write", full)
        return file

    monkeypatch.setattr(Path, "open", open_on_a_full_disk)
    assert "No space left on device" in one_line(deltasweep, "studies", "new", "first")
    monkeypatch.setattr(Path, "open", real_open)
    assert deltasweep("studies", "new", "first").code == 0


def test_a_study_file_in_another_encoding(deltasweep: Command, study: Path) -> None:
    study.write_bytes(f"{STUDY}description: Stra\N{LATIN SMALL LETTER SHARP S}e\n".encode("latin-1"))
    message = one_line(deltasweep, "plan", "mine.yaml")
    assert "line 4 of mine.yaml is in another encoding. Fix: save it as UTF-8" in message


@pytest.mark.parametrize(
    ("text", "got"), [("", "nothing"), ("- name: mine\n", "a list"), ("mine\n", "a text"), ("3\n", "a number")]
)
def test_a_study_file_without_keys(text: str, got: str, deltasweep: Command, study: Path) -> None:
    study.write_text(text, encoding="utf-8")
    assert f"; got {got}. Fix: begin with the line name: NAME" in one_line(deltasweep, "plan", "mine.yaml")
