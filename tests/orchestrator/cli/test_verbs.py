"""The command line without Ray: exit codes, one clear message, no partial output, no torch where it is not needed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.results import commit, open_store
from jobs.study.expand import expand
from orchestrator.study.load import load_study
from tests.orchestrator.support import Command, Result
from tests.results.rows import result_rows

SOURCE = Path(__file__).parents[3]
IN_A_NEW_PROCESS = """
import atexit, sys
sys.argv[0] = "deltasweep"
from orchestrator.cli.main import main
heavy = ("torch", "torchvision", "ray", "robustness", "sklearn")
atexit.register(lambda: print("LOADED", *[name for name in heavy if name in sys.modules], file=sys.stderr))
main()
"""


def loaded_by(*arguments: str) -> tuple[set[str], str]:
    """Return the heavy packages that a call in a new process loads, and its output."""
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    done = subprocess.run(
        [sys.executable, "-c", IN_A_NEW_PROCESS, *arguments],
        cwd=SOURCE,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.rpartition("LOADED")[2].split()), done.stdout


def assert_refused(result: Result, folder: Path) -> None:
    """Require exit code 2, one message, no traceback, and nothing written."""
    assert result.code == 2
    assert result.message.startswith("deltasweep: ")
    assert "Traceback" not in result.message
    assert result.out == ""
    assert list(folder.iterdir()) == []


# --- plan ---


@pytest.mark.parametrize(("name", "trials"), [("paper", "14,400"), ("paper-table4", "12,576")])
def test_plan_of_the_paper(deltasweep: Command, name: str, trials: str) -> None:
    result = deltasweep("plan", name)
    assert result.code == 0
    assert result.out.startswith(f"{name}: {trials} trials: 0 done, {trials} pending")
    assert result.message == ""


def test_plan_as_json_counts_what_a_root_has(deltasweep: Command) -> None:
    root = deltasweep.folder / "root"
    trial = expand(load_study("demo"))[0].trial_id
    commit(open_store(root), "finetune", result_rows(trial))
    result = deltasweep("plan", "demo", "--results", "root", "--json")
    plan = json.loads(result.out)
    planned = len(expand(load_study("demo")))
    assert result.code == 0
    assert (plan["study"], plan["trials"], plan["done"], plan["pending"]) == ("demo", planned, 1, planned - 1)
    assert {"quarantined", "gpu_hours", "images_trained", "images_evaluated"} <= set(plan)


def test_plan_makes_no_root(deltasweep: Command) -> None:
    assert deltasweep("plan", "demo", "--results", "root").code == 0
    assert list(deltasweep.folder.iterdir()) == []


# --- lists ---


@pytest.mark.parametrize(
    ("verb", "names"), [("models", ["fmnist_natural", "linf_eps8"]), ("data", ["digits", "cifar100"])]
)
def test_lists(deltasweep: Command, verb: str, names: list[str]) -> None:
    result = deltasweep(verb, "list")
    assert result.code == 0
    assert all(name in result.out for name in names)


def test_lists_are_whole_where_nothing_says_how_long_lines_are() -> None:
    """Output to a pipe or a file has no width limit, so columns are not truncated."""
    loaded, text = loaded_by("models", "list")
    assert loaded == set()
    assert "resnet35-w8" in text
    assert "gaussian" in text


def test_planning_loads_neither_torch_nor_ray() -> None:
    loaded, text = loaded_by("plan", "paper")
    assert loaded == set()
    assert "14,400 trials" in text


# --- wrong requests ---


def test_unknown_study(deltasweep: Command) -> None:
    result = deltasweep("plan", "papper")
    assert_refused(result, deltasweep.folder)
    assert (
        "unknown study 'papper' (did you mean paper?); packaged studies: demo, demo-claims, demo-confound"
        in result.message
    )


@pytest.mark.parametrize("verb", ["plan", "launch"])
def test_a_wrong_study_file(deltasweep: Command, tmp_path: Path, verb: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("name: wrong\ngrid: {source: [a], dataset: [b], blocks: [3]}\nschedule: []\n", encoding="utf-8")
    result = deltasweep(verb, str(path), "--results", "root")
    assert_refused(result, deltasweep.folder)
    assert f"{path}: 3 mistakes" in result.message
    assert "line 2: grid.source[0]: unknown source 'a'" in result.message
    assert "line 2: grid.dataset[0]: unknown dataset 'b'" in result.message
    assert "line 3: schedule" in result.message


EMPTY_BANDS = """
name: empty
attack:
  source: [fmnist_natural]
  balls: [{constraint: fourier, band: [0.51, 0.52], epsilon: [0.5, 1], steps: 2}]
"""
UNTRAINABLE = """
name: untrainable
sources:
  mine: {architecture: resnet50, trained_on: cue-conflict, constraint: none, epsilon: 0,
         mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], pretrain: {seed: 1, epochs: 1, steps: 0, recipe: {}}}
pretrain: {source: [mine]}
"""


@pytest.mark.parametrize("verb", ["plan", "launch"])
@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (EMPTY_BANDS, "line 5: attack.balls[0].band: images of 32 pixels have no frequency above 8.16 and up to 8.32"),
        (UNTRAINABLE, "line 6: pretrain: all 1280 images of cue-conflict are for testing. Fix: use a dataset with"),
    ],
)
def test_trials_that_cannot_be_run_are_refused_before_any_is(
    deltasweep: Command, tmp_path: Path, verb: str, text: str, rule: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    result = deltasweep(verb, str(path), "--results", "root")
    assert_refused(result, deltasweep.folder)
    assert rule in result.message


@pytest.mark.parametrize("verb", ["plan", "launch"])
def test_a_root_that_is_a_file(deltasweep: Command, tmp_path: Path, verb: str) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    result = deltasweep(verb, "demo", "--results", str(tmp_path / "file"))
    assert_refused(result, deltasweep.folder)
    assert f"{tmp_path}/file is a file" in result.message
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_a_root_that_cannot_be_written(deltasweep: Command) -> None:
    trial = expand(load_study("demo"))[0].trial_id
    result = deltasweep("run", "demo", "--trial", trial, "--results", "/proc/nowhere/root")
    assert_refused(result, deltasweep.folder)
    assert "expected a writable results root; /proc/nowhere/root is not" in result.message


def test_unknown_trial(deltasweep: Command) -> None:
    result = deltasweep("run", "demo", "--trial", "0123456789abcdef", "--results", "root")
    assert_refused(result, deltasweep.folder)
    assert "study demo has no trial '0123456789abcdef'; an example of its ids is finetune-digits-" in result.message


def test_a_trial_whose_data_cannot_be_read_yet(deltasweep: Command) -> None:
    trial = expand(load_study("paper"))[0].trial_id
    result = deltasweep("run", "paper", "--trial", trial, "--results", "root")
    assert result.code == 2
    assert "weights of source 'natural' are not on this machine" in result.message
    assert not [path for path in deltasweep.folder.rglob("*") if path.is_file()], "nothing is left half-made"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fmnist_l3", "unknown source 'fmnist_l3' (did you mean fmnist_"),
        ("natural", "expected a source that DeltaSweep trains; got 'natural'"),
    ],
)
def test_training_a_source_that_cannot_be_trained(deltasweep: Command, name: str, message: str) -> None:
    result = deltasweep("models", "train", name)
    assert_refused(result, deltasweep.folder)
    assert message in result.message


def test_training_a_source_without_its_data(deltasweep: Command) -> None:
    result = deltasweep("models", "train", "fmnist_natural", "--data", "nowhere")
    assert_refused(result, deltasweep.folder)
    assert "dataset 'fmnist' is not on this machine (looked in nowhere)" in result.message


@pytest.mark.parametrize("arguments", [["no-such-verb"], ["plan"], ["launch", "demo"], ["plan", "demo", "--jsn"]])
def test_a_command_line_that_cannot_be_understood(deltasweep: Command, arguments: list[str]) -> None:
    result = deltasweep(*arguments)
    assert result.code == 2
    assert "Usage: " in result.message


# --- one trial, without Ray ---


def test_one_trial_and_once_more(deltasweep: Command, tmp_path: Path) -> None:
    """A trial named by the end of its id is run and committed; the second time it is already done."""
    path = tmp_path / "tiny.yaml"
    path.write_text(
        "name: tiny\ngrid: {source: [fmnist_natural], dataset: [digits], blocks: [0]}\n"
        "schedule: [{images: [20], epochs: 1, seeds: 1, evaluate_every: 1}]\n",
        encoding="utf-8",
    )
    (spec,) = expand(load_study(str(path)))
    first = deltasweep("run", str(path), "--trial", spec.trial_id.rsplit("-", 1)[1], "--results", "root")
    assert first.code == 0
    assert f"{spec.trial_id}: committed" in first.out
    again = deltasweep("run", str(path), "--trial", spec.trial_id, "--results", "root")
    assert again.code == 0
    assert f"{spec.trial_id} is already done" in again.out
    assert len(list((deltasweep.folder / "root" / "trials").rglob("*.parquet"))) == 1
    assert deltasweep("plan", str(path), "--results", "root").out.startswith("tiny: 1 trials: 1 done, 0 pending")


# --- what each verb may load ---


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        (
            "jobs.results, jobs.study.expand, jobs.possible, jobs.catalog.costs",
            ("torch", "ray", "orchestrator", "analysis"),
        ),
        ("orchestrator.cli.main", ("torch", "ray", "analysis", "pyarrow")),
        ("orchestrator.study.load, orchestrator.planning.plan", ("torch", "ray", "analysis")),
        ("orchestrator.live.serve", ("torch", "torchvision", "safetensors", "ray", "matplotlib", "duckdb")),
        (
            "jobs.kinds.finetune.trial, jobs.kinds.pretrain.train_source, jobs.execution.commit",
            ("ray", "orchestrator", "analysis"),
        ),
    ],
)
def test_what_a_module_must_not_load(module: str, forbidden: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*[name for name in {forbidden!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=SOURCE, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("verb", ["verify", "compact", "status", "resume"])
def test_a_root_that_is_not_there_is_refused_and_not_made(deltasweep: Command, verb: str) -> None:
    result = deltasweep(verb, "--results", "typo")
    assert_refused(result, deltasweep.folder)
    assert "typo" in result.message


def test_verify_goes_on_when_a_study_record_is_damaged(deltasweep: Command) -> None:
    store = open_store(deltasweep.folder / "root")
    store.create("studies/x/0123456789abcdef.yaml", b"grid: [")
    store.create("trials/finetune/00/foreign.txt", b"")
    result = deltasweep("verify", "--results", "root")
    assert result.code == 1
    assert "0123456789abcdef.yaml" in result.out
    assert "foreign.txt" in result.out


def test_an_import_with_other_numbers_is_told_by_its_exit_code(deltasweep: Command) -> None:
    row = "natural,cifar10,100,3,20000000,100,{}\n"
    for name, accuracy in (("one.csv", 48.5), ("two.csv", 48.6)):
        text = "source,dataset,images,blocks,seed,epoch,test_accuracy\n" + row.format(accuracy)
        (deltasweep.folder / name).write_text(text, encoding="utf-8")
    assert deltasweep("import-trials", "one.csv", "--results", "root").code == 0
    assert deltasweep("import-trials", "one.csv", "--results", "root").code == 0
    result = deltasweep("import-trials", "two.csv", "--results", "root", "--quiet")
    assert result.code == 1
    assert "conflict: 1 trial with other numbers" in result.out + result.message


def test_an_empty_root_is_no_root_to_plan_with(deltasweep: Command) -> None:
    result = deltasweep("plan", "demo", "--results", "")
    assert result.code == 2
    assert "got empty text" in result.message
