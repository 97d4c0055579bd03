"""Untrusted study files, results roots and checkpoints: nothing in them is ever executed.

Each contains a trap, which creates a file when executed; the first tests show that the traps work.
"""

import hashlib
import io
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
import yaml
from rich.console import Console

from jobs.errors import Code, InvalidRequest
from jobs.results import open_store, schema
from jobs.results.layout import checkpoint_key, trial_key
from jobs.results.parquet import encode
from jobs.study.expand import expand
from orchestrator.launching.launch import launch
from orchestrator.launching.local import run_locally
from orchestrator.study.load import load_study, parse_study
from tests.jobs.data import made
from tests.jobs.mirrors import mirror
from tests.jobs.released import RunsCode
from tests.orchestrator.support import Command, mistakes
from tests.results.rows import result_rows
from tests.support import refused

STUDY = """
name: stranger
grid: {source: [fmnist_natural], dataset: [digits], blocks: [0]}
schedule: [{images: [20], epochs: 1, seeds: 1, evaluate_every: 1}]
"""
(SPEC,) = expand(parse_study(STUDY, "stranger.yaml"))
TRIAL = SPEC.trial_id
RESULT = trial_key("finetune", TRIAL)
VERBS = (
    ("plan", "study.yaml", "--results", "root"),
    ("status", "--results", "root"),
    ("logs", TRIAL, "--results", "root"),
    ("query", "SELECT * FROM evaluations", "--results", "root"),
    ("query", "SELECT * FROM failures", "--results", "root"),
    ("deltas", "--results", "root"),
    ("report", "--results", "root", "--out", "page"),
    ("verify", "--results", "root"),
    ("compact", "--results", "root"),
    ("run", "study.yaml", "--trial", TRIAL, "--results", "root"),
    ("resume", "--results", "root"),
    ("launch", "study.yaml", "--results", "root"),
    ("data", "fetch", "--study", "study.yaml"),
    ("models", "fetch", "--study", "study.yaml"),
)


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """The file that a trap creates when executed."""
    return tmp_path / "it-ran"


def pickled(trap: Path) -> bytes:
    return pickle.dumps(RunsCode(trap))


def saved_by_torch(trap: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"fc.weight": RunsCode(trap)}, buffer)
    return buffer.getvalue()


def tagged(trap: Path) -> str:
    return f"!!python/object/apply:os.system ['touch {trap}']"


@pytest.mark.parametrize(
    "spring",
    [
        lambda trap: pickle.loads(pickled(trap)),
        lambda trap: torch.load(io.BytesIO(saved_by_torch(trap)), weights_only=False),
        lambda trap: yaml.unsafe_load(tagged(trap)),
    ],
    ids=["pickle", "torch", "yaml"],
)
def test_the_traps_work(spring: Callable[[Path], object], trap: Path) -> None:
    spring(trap)
    assert trap.exists()


# --- a study file ---


@pytest.mark.parametrize("place", ["name", "grid", "recipe", "contrasts", "other"])
def test_a_study_file_with_tags_of_python(place: str, trap: Path) -> None:
    lines = [line for line in STUDY.splitlines() if not line.startswith(f"{place}:")]
    tag = "python/object/apply:os.system"
    with refused(Code.UNREADABLE_FILE, "YAML", tag, kind=InvalidRequest, file="stranger.yaml", line=len(lines) + 1):
        parse_study("\n".join([*lines, f"{place}: {tagged(trap)}"]), "stranger.yaml")
    assert not trap.exists()


@pytest.mark.parametrize("shape", ["[{}]", "{{a: {0}, b: {0}}}", "{{<<: [{}]}}"])
def test_a_study_file_whose_aliases_stand_for_more_than_memory_holds(shape: str) -> None:
    """Nine times nine times nine..., in lists, mappings and merged mappings."""
    levels = [f"x{n}: &x{n} " + shape.format(", ".join([f"*x{n - 1}"] * 9)) for n in range(1, 30)]
    with refused(Code.UNREADABLE_FILE, "aliases", "100,000", kind=InvalidRequest, file="stranger.yaml"):
        parse_study("\n".join(["x0: &x0 {a: 1}", *levels, STUDY]), "stranger.yaml")


def test_a_study_file_may_have_aliases() -> None:
    text = STUDY.replace("blocks: [0]", "blocks: &few [0, 1]") + "contrasts: []\n"
    row = "schedule: [{images: [20], epochs: 1, seeds: *few, evaluate_every: 1}]"
    found = mistakes(text.replace("schedule: [{images: [20], epochs: 1, seeds: 1, evaluate_every: 1}]", row))
    (seeds,) = [one for one in found if one.place.key == "schedule[0].seeds"]
    assert "[0, 1]" in seeds.message, "understood as the list that it stands for"


THESIS = "thesis.pdf"
OUTSIDE = (f"../../../{THESIS}", f"x/../../../../{THESIS}", f"{{folder}}/{THESIS}")
"""Paths of a file of the user, from the folder of a dataset or of downloaded weights."""
EVIL = b"evil"


def of_files(file: str, url: str, archive: bytes) -> dict[str, Any]:
    """Return the parts of a study with a dataset that is fetched from a stranger's server."""
    return of_dataset(url, files=[{"name": file, "sha256": hashlib.sha256(EVIL).hexdigest()}], format="svhn")


def of_members(file: str, url: str, archive: bytes) -> dict[str, Any]:
    member = {"name": file, "sha256": hashlib.sha256(EVIL).hexdigest()}
    packed = {"name": "archive", "sha256": hashlib.sha256(archive).hexdigest()}
    return of_dataset(url, files=[packed], members=[member], format="cifar")


def of_dataset(url: str, **card: Any) -> dict[str, Any]:
    facts = {"train": 1, "test": 1, "labels": 2, "colour": True, "mean": [0.5] * 3, "std": [0.5] * 3}
    return {"datasets": {"theirs": {**facts, "mirrors": [url], **card}}, "grid": {"dataset": ["theirs"]}}


def of_release(file: str, url: str, archive: bytes) -> dict[str, Any]:
    release = {"file": file, "format": "torchvision", "urls": [f"{url}/archive"]}
    training = {"trained_on": "digits", "constraint": "none", "epsilon": 0, "mean": [0.5] * 3, "std": [0.5] * 3}
    card = {"architecture": "resnet35-w8", **training, "release": release}
    return {"sources": {"theirs": card}, "grid": {"source": ["theirs"]}}


@pytest.mark.parametrize("outside", OUTSIDE, ids=["above", "above a folder", "absolute"])
@pytest.mark.parametrize("keys", [of_files, of_members, of_release])
def test_a_study_file_that_names_a_file_of_the_user(
    keys: Callable[[str, str, bytes], dict[str, Any]], outside: str, deltasweep: Command, tmp_path: Path
) -> None:
    """It is neither replaced nor removed, and nothing is downloaded."""
    (tmp_path / THESIS).write_bytes(b"years of work")
    file = outside.format(folder=tmp_path)
    archive = made.tar_gz({file: EVIL})
    with mirror(files={file.lstrip("/"): EVIL, "archive": archive}) as server:
        study = yaml.safe_load(STUDY)
        theirs = keys(file, server.url, archive)
        theirs["grid"] = study["grid"] | theirs["grid"]
        (deltasweep.folder / "study.yaml").write_text(yaml.safe_dump(study | theirs))
        for verb in VERBS:
            if "study.yaml" in verb:
                result = deltasweep(*verb)
                assert (result.code, THESIS in result.message) == (2, True), result.message
    assert (tmp_path / THESIS).read_bytes() == b"years of work"
    assert server.asked == []


# --- a results root ---


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study file and a root in which its only trial is done."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "study.yaml").write_text(STUDY)
    study, store, console = load_study(str(folder / "study.yaml")), open_store(folder / "root"), Console(quiet=True)
    run_locally(study, TRIAL, store, console)
    launch(study, store, console)
    return folder


@pytest.fixture
def folder(deltasweep: Command, finished: Path) -> Path:
    shutil.copytree(finished, deltasweep.folder, dirs_exist_ok=True)
    return deltasweep.folder


def extended(trap: Path) -> bytes:
    """A result whose first column claims that its type is stored in a pickle, which pyarrow once unpickled."""
    table = pa.Table.from_pylist(result_rows(TRIAL), schema=schema("finetune"))
    pickled_type = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickled(trap)}
    return encode(table.cast(table.schema.set(0, table.schema.field(0).with_metadata(pickled_type))))


def outside(trap: Path) -> bytes:
    """An index that names a file outside the root."""
    above = (trap.parent / "above").read_bytes()
    entry = {"file": "../../above", "sha256": hashlib.sha256(above).hexdigest(), "rows": 1, "trials": 1}
    return json.dumps({"version": 1, "kinds": {"finetune": entry | {"previous": "../../above"}}}).encode()


def failure(trap: Path) -> bytes:
    """A failure record whose trial id is a path out of the root."""
    words = dict.fromkeys(("error", "reason", "host", "launch"), "x") | {"failed_at": "2026-01-01T00:00:00+00:00"}
    return json.dumps({"trial_id": "../../../x", "attempt": 1, "kind": "error", **words}).encode()


def checkpoint_with(data: bytes) -> str:
    return checkpoint_key(TRIAL, 1, 0, hashlib.sha256(data).hexdigest()[:16])


ROOTS: dict[str, tuple[str, Callable[[Path], bytes]]] = {
    "result, a pickle": (RESULT, pickled),
    "result, an extension": (RESULT, extended),
    "result, its trial elsewhere": (RESULT, lambda _: encode(_table("../../../x"))),
    "index, a pickle": ("compact/CURRENT.json", pickled),
    "index, a file elsewhere": ("compact/CURRENT.json", outside),
    "failure, a pickle": (f"failures/{TRIAL}/1.json", pickled),
    "failure, its trial elsewhere": (f"failures/{TRIAL}/1.json", failure),
    "launch": ("launches/20990101T000000Z-x.json", pickled),
    "study": ("studies/stranger/0123456789ab.yaml", lambda trap: f"{STUDY}contrasts: {tagged(trap)}".encode()),
    "pin": ("sources/fmnist_natural.json", pickled),
    "kept weights": (f"weights/{TRIAL}.safetensors", saved_by_torch),
}


def _table(trial: str) -> pa.Table:
    return pa.Table.from_pylist(result_rows(trial), schema=schema("finetune"))


@pytest.mark.filterwarnings("ignore::jobs.results.reader.DamagedIndexWarning")
@pytest.mark.parametrize("name", ROOTS)
def test_a_results_root(name: str, deltasweep: Command, folder: Path, trap: Path) -> None:
    """Every verb reads the root, executes nothing in it, and leaves everything outside the root unchanged."""
    (trap.parent / "above").write_bytes(encode(_table(TRIAL)))
    key, content = ROOTS[name]
    hostile = folder / "root" / key
    hostile.parent.mkdir(parents=True, exist_ok=True)
    hostile.write_bytes(content(trap))
    before = _files(trap.parent, but=folder)
    for verb in VERBS:
        deltasweep(*verb)  # any exit code is accepted, but no crash
    assert not trap.exists()
    after = _files(trap.parent, but=folder)
    kept = {file for file in after if file.is_relative_to("home/scripts")}  # written by the first report on a machine
    assert {file: data for file, data in after.items() if file not in kept} == before
    assert {file.parts[0] for file in _files(folder)} <= {"root", "study.yaml", "page"}


def _files(place: Path, but: Path | None = None) -> dict[Path, bytes]:
    files = [path for path in place.rglob("*") if path.is_file() and not (but and path.is_relative_to(but))]
    return {path.relative_to(place): path.read_bytes() for path in files}


# --- a checkpoint ---


@pytest.mark.parametrize("content", [pickled, saved_by_torch], ids=["pickle", "torch"])
def test_a_checkpoint(content: Callable[[Path], Any], deltasweep: Command, tmp_path: Path, trap: Path) -> None:
    """The checkpoint's name matches its digest, but it is skipped and the trial starts from the beginning."""
    study = deltasweep.folder / "study.yaml"
    study.write_text(STUDY)
    data = content(trap)
    open_store(deltasweep.folder / "root").create(checkpoint_with(data), data)
    result = deltasweep("run", "study.yaml", "--trial", TRIAL, "--results", "root")
    assert result.code == 0, result.message
    assert "cannot be used" in result.out
    assert f"{TRIAL}: committed" in result.out
    assert not trap.exists()
