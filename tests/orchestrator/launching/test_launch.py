"""What a launch runs, refuses and leaves behind: nothing runs twice, nothing is left incomplete."""

import sys
from pathlib import Path
from typing import Any

import pytest
import ray
from rich.console import Console

from jobs.catalog.dataset_card import DatasetCard
from jobs.data.datasets import Dataset, cached_dataset, load_dataset
from jobs.data.describe import describe
from jobs.errors import Code, InvalidRequest, MissingData, ResultsConflict
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.results import (
    Failure,
    FailureKind,
    done,
    open_store,
    pin,
    read_launches,
    read_trials,
    record_failure,
)
from jobs.study.expand import expand
from jobs.study.model import Study
from orchestrator.cli.ended import Ended
from orchestrator.cli.exit_codes import ExitCode
from orchestrator.failures.outcomes import StopCause
from orchestrator.launching.launch import launch
from orchestrator.launching.local import run_locally
from orchestrator.launching.options import Options
from orchestrator.ray_tune import tuner
from orchestrator.ray_tune.tuner import share_of
from orchestrator.study.history import recorded_study
from orchestrator.study.load import parse_study
from tests.jobs.data import made
from tests.orchestrator.in_process import replace_ray
from tests.support import present, refused

pytestmark = pytest.mark.usefixtures("short_tests")

LONG_AGO = "2026-01-01T00:00:00+00:00"
STUDY = """
name: {name}
grid:
  source: [{source}]
  dataset: [digits]
  blocks: [0, 3]
schedule:
  - {{images: [30], epochs: 4, seeds: 2, evaluate_every: 2}}
resources: {{gpu: 0.25, cpu: {cpu}}}
checkpoint_every: 1
"""


def study(name: str = "mini", source: str = "fmnist_natural", cpu: float = 1) -> Study:
    return parse_study(STUDY.format(name=name, source=source, cpu=cpu), f"{name}.yaml")


def test_a_second_launch_runs_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_ray(monkeypatch, tmp_path)
    store = open_store(tmp_path / "root")
    first = launch(study(), store, Console(quiet=True), Options(max_trials=3))
    assert (first.done, first.left) == (3, 1)
    before = {key: (tmp_path / "root" / key).stat().st_mtime_ns for key in store.keys("trials")}
    second = launch(study("other-name", cpu=0.5), store, Console(quiet=True))
    assert (second.done, second.left) == (4, 0)
    after = {key: (tmp_path / "root" / key).stat().st_mtime_ns for key in store.keys("trials")}
    assert before.items() < after.items()
    assert [record.ended_at is not None for record in read_launches(store)] == [True, True]


@pytest.mark.parametrize("cause", StopCause)
@pytest.mark.parametrize("most", [None, 2])
def test_a_stop_with_nothing_left_is_none(
    most: int | None, cause: StopCause, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit is reached while the last trials are committed, for example. Only a signal is about more than trials."""
    replace_ray(monkeypatch, tmp_path)
    run_round = tuner.run_round

    def stops_at_the_end(*given: Any) -> None:
        run_round(*given)
        given[-1].request_stop(cause, "the reason")

    monkeypatch.setattr(tuner, "run_round", stops_at_the_end)
    summary = launch(study(), open_store(tmp_path / "root"), Console(quiet=True), Options(max_trials=most))
    assert (summary.done, summary.failed) == (most or 4, {})
    code = Ended("mini", "root", "deltasweep resume", summary).exit_code
    if cause is StopCause.INTERRUPTED:
        assert (summary.status, code) == ("interrupted", ExitCode.INTERRUPTED)
    else:
        assert (summary.status, summary.stop, code) == ("done", None, ExitCode.ALL_DONE)


def test_trials_with_and_without_whole_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kinds of images are loaded before the first trial, and bundles get the same images as single trials."""
    replace_ray(monkeypatch, tmp_path)
    card = describe(made.write(tmp_path / "insects", made.folder_files()), "insects").card
    seen: list[bool] = []

    def load(card: DatasetCard, size: int, *, whole_training: bool) -> Dataset:
        seen.append(whole_training)
        return load_dataset(card, size, whole_training=whole_training)

    monkeypatch.setattr("orchestrator.launching.preparation.load_dataset", load)
    losses = []
    for bundle in ("none", "blocks"):
        cached_dataset.cache_clear()
        photographs = Study.model_validate(
            {
                "name": "photographs",
                "grid": {
                    "source": ["fmnist_natural"],
                    "dataset": ["insects"],
                    "blocks": [0, 1],
                    "recipe": {"crop": ["centre-square", "whole-image"]},
                },
                "schedule": [{"images": [-1], "epochs": 2, "seeds": 1, "evaluate_every": 1}],
                "datasets": {"insects": card.model_dump(exclude={"name"})},
                "bundle": bundle,
            }
        )
        store = open_store(str(tmp_path / bundle))
        assert launch(photographs, store, Console(quiet=True)).done == 4
        rows = read_trials(store, "finetune").to_pylist()
        losses.append({(row["trial_id"], row["epoch"]): row["train_loss"] for row in rows})
    assert losses[0] == losses[1]
    assert len(losses[0]) == 8
    assert len(set(losses[0].values())) == 6, "the first batch of either sort is told alike by any number of blocks"
    assert sorted(seen) == [False, False, True, True]


def test_a_launch_without_work_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path)
    for spec in expand(study()):
        run_locally(study(), spec.trial_id, store, Console(quiet=True))
    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("Ray was started"))
    assert launch(study("later"), store, Console(quiet=True)).done == 4
    assert recorded_study(store, None).name == "later"
    (record,) = read_launches(store)
    assert record.ended_at is not None


class Started(Exception):
    """Raised in place of starting Ray."""


def test_quarantined_trials_run_only_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(_: object) -> None:
        raise Started

    store, trials = open_store(tmp_path), {spec.trial_id for spec in expand(study())}
    for trial in trials:
        for attempt in (1, 2):
            record_failure(
                store, Failure(trial, attempt, FailureKind.ERROR, "ValueError", "no", "h", "l", LONG_AGO), "log"
            )
    monkeypatch.setattr(tuner, "connect", connect)
    summary = launch(study(), store, Console(quiet=True))
    assert (set(summary.failed), summary.done, summary.left) == (trials, 0, 0)
    with pytest.raises(Started):
        launch(study(), store, Console(quiet=True), Options(retry_quarantined=True))


def test_missing_weights_are_one_message_and_leave_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with refused(Code.MISSING_WEIGHTS, "'natural'", kind=MissingData):
        launch(study(source="natural"), open_store(root), Console(quiet=True))
    assert not root.exists()


def test_a_root_that_knows_other_weights_refuses(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    pin(store, "sources", "fmnist_natural", "0" * 64)
    pinned = f"{store.uri}/sources/fmnist_natural.json"
    with refused(Code.OTHER_DIGEST, "'fmnist_natural'", kind=ResultsConflict, file=pinned):
        launch(study(), store, Console(quiet=True))
    assert not list(store.keys("launches"))
    assert not done(store, FinetuneSpec.kind)


def test_an_unwritable_root_is_refused_before_ray_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("Ray was started"))
    (tmp_path / "file").write_text("")
    file, nowhere = tmp_path / "file", "/proc/nothing-can-be-made-here"
    with refused(Code.WRONG_PLACE, file, "directory", kind=InvalidRequest, file=file, key="--results"):
        launch(study(), open_store(file), Console(quiet=True))
    with refused(Code.WRONG_PLACE, file, "directory", kind=InvalidRequest, file=file, key="--results"):
        launch(study(), open_store(file / "below"), Console(quiet=True))
    with refused(Code.ROOT_NOT_WRITABLE, nowhere, kind=InvalidRequest, file=nowhere, key="--results"):
        launch(study(), open_store(nowhere), Console(quiet=True))


def test_a_python_in_a_path_with_a_space_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise Ray's workers would never start, and the launch would wait forever."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(sys, "executable", "/home/ada/my env/bin/python")
    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("Ray was started"))
    python = "/home/ada/my env/bin/python"
    with refused(Code.NO_CLUSTER, python, "make VENV=", "--address", kind=InvalidRequest, file=python):
        tuner.connect(None)


@pytest.mark.parametrize(
    ("machines", "expected", "words"),
    [
        ([{"memory": 1e9}], {"CPU": 1, "GPU": 0.25}, "requesting machines"),
        ([{"CPU": 8}], {"CPU": 1}, "no GPU"),
        ([{"memory": 1e9}, {"CPU": 8, "GPU": 1}], {"CPU": 1, "GPU": 0.25}, None),
    ],
)
def test_shares_while_a_cluster_grows(
    machines: list[dict[str, float]],
    expected: dict[str, float],
    words: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An idle head alone is a cluster waiting for demand; machines with CPUs and no GPU are a cluster without GPUs."""
    monkeypatch.setattr(tuner, "_nodes", lambda: machines)
    said: list[str] = []
    assert share_of(study().resources, said.append) == expected
    assert [present(words) in line for line in said] == ([True] if words else [])
