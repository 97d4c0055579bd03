"""Status from Python is that of the command line."""

import shutil
from pathlib import Path

import pytest

import deltasweep as ds
from jobs.errors import Code, InvalidRequest
from jobs.results import Failure, FailureKind, open_store, record_failure
from tests.deltasweep.support import small
from tests.support import refused

RELEASED = Path(__file__).parents[1] / "roots" / "0.2.0"
"""A root of a released version with trials in five states."""


def test_each_trial_has_a_state() -> None:
    now = ds.status(RELEASED)
    assert (now.study, now.planned, now.done, now.failed) == ("pairs", 8, 2, 2)
    trials = now.trials.to_pandas().set_index("trial")
    assert list(trials.index) == [*ds.status(RELEASED, "pairs").trials["trial"].to_pylist()]
    for state in ("done", "failed", "quarantined", "pending", "running", "damaged"):
        assert now.ids(state) == [*trials.index[trials["state"] == state]]
        assert now.count(state) == len(now.ids(state))
    (failed,) = now.ids("failed")
    assert trials.loc[failed, "reason"] == "OSError: the storage went away"
    assert trials.loc[failed, "source"] == "fmnist_l2_eps1"
    assert now.to_dict()["done"] == 2
    assert now.cells["pending"].to_pylist() == [2, 2]


def test_an_unknown_state_is_not_an_empty_one() -> None:
    for asked in (ds.status(RELEASED).ids, ds.status(RELEASED).count):
        with refused(Code.UNKNOWN_NAME, "done", "'finished'", kind=InvalidRequest, key="state"):
            asked("finished")  # type: ignore[arg-type]  # what users may pass


def test_one_accepted_version_needs_no_list() -> None:
    one = ds.status(RELEASED, accept_numerics="finetune:2").to_dict()
    assert one == ds.status(RELEASED, accept_numerics=["finetune:2"]).to_dict()


def test_kinds_share_one_table() -> None:
    """Trials of several kinds have different choices; one without a choice has null there."""
    trials = ds.status(RELEASED, "looks").trials.to_pandas()
    assert set(trials["kind"]) == {"finetune", "attack", "influence", "shape_bias", "visualize"}
    assert trials.loc[trials["kind"] == "finetune", "epsilon"].isna().all()


def test_what_a_notebook_shows() -> None:
    shown = ds.status(RELEASED)._repr_html_()
    assert 'aria-label="2 done, 1 quarantined, 1 failed, 4 pending"' in shown
    assert "OSError: the storage went away" in shown


def test_messages_of_failures_are_text(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(finished, root)
    trial = small().trials["trial"][0].as_py()
    shutil.rmtree(root / "trials")
    evil = "<img src=x onerror=alert(1)>"
    failure = Failure(trial, 1, FailureKind.ERROR, evil, "no", "h", "l", "2026-01-01T00:00:00+00:00")
    record_failure(open_store(root), failure, "log")
    now = ds.status(root)
    assert now.ids("failed") == [trial]
    for shown in (now._repr_html_(), now.trials._repr_html_()):
        assert "<img" not in shown
        assert "&lt;img src=x" in shown


def test_what_has_no_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with refused(Code.NO_ROOT, tmp_path, kind=InvalidRequest):
        ds.status(tmp_path)
    with refused(Code.NO_ROOT, "does not exist", kind=InvalidRequest, file=tmp_path / "typo", key="--results"):
        ds.status(tmp_path / "typo")
    monkeypatch.setenv("DELTASWEEP_RESULTS", str(RELEASED))
    with refused(Code.UNKNOWN_NAME, "'smal'", "pairs", kind=InvalidRequest, key="--study"):
        ds.status(study="smal")
