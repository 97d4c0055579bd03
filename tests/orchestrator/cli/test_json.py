"""`--json` and `--quiet` of every command: what they print, where, and with which keys."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

import analysis
from jobs.catalog.catalog import PACKAGED
from jobs.data.datasets import Dataset
from jobs.kinds.pretrain import check_source, train_source
from jobs.models import fetch
from jobs.models.weights import SourceWeights, load_source
from jobs.results import open_store, record_failure
from jobs.results.failures import Failure, FailureKind
from jobs.study.expand import expand
from orchestrator.cli import architectures
from orchestrator.cli.json_keys import KEYS
from orchestrator.cli.main import app
from orchestrator.launching import launch
from orchestrator.process.terminal import Terminal
from orchestrator.ray_tune import submit
from orchestrator.ray_tune.submit import Heard, ListeningEnd, Submission
from orchestrator.study.load import parse_study
from scripts.cli_page import commands
from tests.documentation import ROOT
from tests.jobs.data import made
from tests.jobs.released import attacker_state, register, resnet_of, save_robustness
from tests.orchestrator.support import Command, Result

pytestmark = pytest.mark.usefixtures("short_tests", "without_ray")

STUDY = """
name: mini
grid: {source: [fmnist_natural, fmnist_l2_eps1], dataset: [digits], blocks: [0]}
contrasts: [{source: fmnist_l2_eps1, baseline: fmnist_natural, blocks: [0]}]
schedule: [{images: [20], epochs: 1, seeds: 2, evaluate_every: 1}]
"""
FIRST, SECOND, *_ = [spec.trial_id for spec in expand(parse_study(STUDY, "mini.yaml"))]
AT_ROOT = ("--results", "root")
ON_A_CLUSTER = ("--submit", "--address", "http://127.0.0.1:8265", "--results", "s3://bucket/root")
CALLS: dict[str, list[tuple[str, ...]]] = {
    "deltasweep demo": [("--results", "new")],
    "deltasweep plan": [("mini.yaml", *AT_ROOT, "--compare", "T4")],
    "deltasweep launch": [("mini.yaml", "--results", "new"), ("mini.yaml", *ON_A_CLUSTER), ("broken.yaml", *AT_ROOT)],
    "deltasweep resume": [(*AT_ROOT, "--study", "mini"), ON_A_CLUSTER],
    "deltasweep status": [AT_ROOT],
    "deltasweep logs": [(FIRST, *AT_ROOT)],
    "deltasweep run": [("mini.yaml", "--trial", FIRST, "--results", "new"), ("mini.yaml", "--trial", FIRST, *AT_ROOT)],
    "deltasweep ui": [(*AT_ROOT, "--port", "0")],
    "deltasweep query": [("SELECT source, test_accuracy FROM trials", *AT_ROOT)],
    "deltasweep deltas": [AT_ROOT],
    "deltasweep report": [(*AT_ROOT, "--out", "page")],
    "deltasweep import-trials": [(str(ROOT / "examples" / "first-sweep.csv"), "--results", "new")],
    "deltasweep compact": [AT_ROOT],
    "deltasweep merge": [("root", "--results", "new")],
    "deltasweep verify": [AT_ROOT],
    "deltasweep studies list": [()],
    "deltasweep studies show": [("demo",)],
    "deltasweep studies new": [("mine",)],
    "deltasweep trials list": [("mini.yaml",), ("mini.yaml", *AT_ROOT), ("mini.yaml", *AT_ROOT, "--state", "done")],
    "deltasweep models list": [()],
    "deltasweep models fetch": [("fmnist_natural",)],
    "deltasweep models convert": [("tiny.pt", "--as", "tiny")],
    "deltasweep models check": [("tiny",)],
    "deltasweep models train": [("fmnist_natural",)],
    "deltasweep models describe": [("torchvision:resnet18",)],
    "deltasweep data list": [()],
    "deltasweep data fetch": [("digits",)],
    "deltasweep data split": [("photos", "--out", "divided")],
    "deltasweep data describe": [("insects",)],
    "deltasweep schema": [()],
    "deltasweep completion": [("bash",)],
}
ANSWERS = {  # what is asked for is printed even with --quiet
    *("plan", "status", "ui", "logs", "query", "deltas", "studies list", "studies show", "trials list"),
    *("models list", "models check", "models describe", "data list", "data describe", "schema", "completion"),
}
BROKEN = STUDY.replace("name: mini", "name: broken").replace("images: [20]", "images: [21]")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, without_ray: None) -> Path:
    """A folder with study files and a root in which one study is done, with a trial that failed once before."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "mini.yaml").write_text(STUDY, encoding="utf-8")
    (folder / "broken.yaml").write_text(BROKEN, encoding="utf-8")
    store = open_store(folder / "root")
    launch.launch(parse_study(STUDY, "mini.yaml"), store, Terminal(quiet=True))
    for trial in (FIRST, *(spec.trial_id for spec in expand(parse_study(BROKEN, "broken.yaml"))[:1])):
        for attempt in (1, 2):
            when = "2026-01-01T00:00:00+00:00"
            failure = Failure(trial, attempt, FailureKind.ERROR, "ValueError", "no", "host", "launch", when)
            record_failure(store, failure, "Traceback")
    return folder


@pytest.fixture
def ready(
    deltasweep: Command,
    finished: Path,
    weights: SourceWeights,
    few_digits: Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> Command:
    """The command in a folder in which every call of this module can succeed."""
    folder = deltasweep.folder
    shutil.copytree(finished, folder, dirs_exist_ok=True)
    made.write(folder / "insects", made.folder_files())
    made.write(
        folder / "photos",
        {f"{label}/{i}.jpg": made.image_bytes(3, 3, seed=i) for label in ("ant", "bee") for i in range(20)},
    )
    register(monkeypatch)
    load_source.cache_clear()
    save_robustness(folder / "tiny.pt", attacker_state(resnet_of(weights.tensors)))
    card = PACKAGED.architecture("resnet18")
    found = SimpleNamespace(path=Path("x.safetensors"), was_here=True, original_sha256="0", known_beforehand="known")
    monkeypatch.setattr(architectures, "describe_network", lambda *_: card)  # tested by test_own_networks
    monkeypatch.setattr(fetch, "fetch_source", lambda *_, **__: found)  # by test_models
    monkeypatch.setattr(analysis, "report", lambda *_, **__: Path("page/index.html"))  # by tests of the page
    monkeypatch.setattr(check_source, "load_dataset", lambda *_: few_digits)
    monkeypatch.setattr(train_source, "train_source", lambda name, out, *_: out / "fmnist_natural.safetensors")
    monkeypatch.setattr(submit, "submit", lambda *_: Submission("http://127.0.0.1:8265", "job-1"))
    monkeypatch.setattr(submit, "listen", lambda *_: Heard(ListeningEnd.FINISHED, 0))
    monkeypatch.setattr("orchestrator.live.serve.asyncio.run", lambda serving: serving.close())
    monkeypatch.setattr("orchestrator.study.load.packaged_text", lambda name: STUDY)
    return deltasweep


def call(ready: Command, words: str, arguments: tuple[str, ...], *options: str) -> Result:
    if words == "deltasweep models check":
        assert ready("models", "convert", "tiny.pt", "--as", "tiny", "--quiet").code == 0
    return ready(*words.split()[1:], *arguments, *options)


def paths(value: Any, place: str = "") -> Iterator[str]:
    """Yield every place of a JSON value, as the reference writes it."""
    yield place
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner, f"{place}[]")


def undocumented(value: Any, documented: set[str]) -> set[str]:
    """Return the places that are neither documented, nor around nor below one that is."""
    around = {path[:end] for path in documented for end in range(len(path)) if path[end] in ".["}
    below = tuple(f"{path}{mark}" for path in documented for mark in ".[")
    places = set(paths(value)) - {"", "[]"} - documented - around
    return {place for place in places if not place.startswith(below) and "" not in documented}


def test_every_command_is_called_and_its_keys_are_documented() -> None:
    known = {words for words, _ in commands("deltasweep", typer.main.get_command(app))}
    assert known == CALLS.keys() == KEYS.keys()
    for words, command in commands("deltasweep", typer.main.get_command(app)):
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--json", "--quiet"} <= options, words


@pytest.mark.parametrize("words", CALLS)
def test_standard_output_is_one_json_value_with_the_documented_keys(words: str, ready: Command) -> None:
    documented, seen = set(KEYS[words]), set[str]()
    for arguments in CALLS[words]:
        result = call(ready, words, arguments, "--json")
        assert result.code == (1 if arguments[:1] == ("broken.yaml",) else 0), result.message
        value = json.loads(result.out)
        assert undocumented(value, documented) == set()
        seen |= set(paths(value))
    unseen = (
        documented - seen - {"", "findings[].problem", "findings[].key", "findings[].advice", "findings[].harmless"}
    )
    if words == "deltasweep resume":
        unseen -= {path for path in documented if path.startswith("failed[]")}
    if words == "deltasweep demo":
        unseen -= {path for path in documented if path.startswith("launches[].failed[]")}
    if words == "deltasweep plan":
        unseen -= {"about_processor[]"}  # the study computes in float32, which every processor has units for
    assert unseen == set(), "documented, but not printed"


@pytest.mark.parametrize("words", CALLS)
def test_quietly_there_is_only_what_was_asked_for(words: str, ready: Command) -> None:
    arguments = CALLS[words][0]
    result = call(ready, words, arguments, "--quiet")
    assert (result.code, result.message) == (0, "")
    assert bool(result.out) == (words.removeprefix("deltasweep ") in ANSWERS)
    if words not in ("deltasweep studies new", "deltasweep data split"):  # refused the second time
        both = call(ready, words, arguments, "--json", "--quiet")
        assert both.message == ""
        json.loads(both.out)


def test_failures_are_told_even_quietly(ready: Command) -> None:
    result = ready("launch", "broken.yaml", "--results", "root", "--quiet")
    assert (result.code, result.out) == (1, "")
    assert result.message.startswith("failed: finetune-")
    wrong = ready("launch", "nowhere.yaml", "--results", "root", "--quiet")
    assert (wrong.code, wrong.out, wrong.message.count("\n")) == (2, "", 0)


@pytest.mark.parametrize("words", CALLS)
def test_errors_are_json_on_standard_error(words: str, ready: Command) -> None:
    result = ready(*words.split()[1:], "--no-such-option", "--json")
    assert (result.code, result.out) == (2, "")
    error = json.loads(result.message)["error"]
    assert (error["code"], error["key"]) == ("unknown-key", "--no-such-option")


def test_two_formats_are_refused(ready: Command) -> None:
    for words in ("query SELECT", "deltas"):
        verb = words.split()
        result = ready(*verb, *AT_ROOT, "--json", "--format", "csv")
        assert (result.code, json.loads(result.message)["error"]["key"]) == (2, "--format")
    for words in ("status --watch", f"logs {FIRST} --follow"):
        verb = words.split()
        result = ready(*verb, *AT_ROOT, "--json")
        assert (result.code, json.loads(result.message)["error"]["key"]) == (2, verb[-1])
