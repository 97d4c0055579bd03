"""Trials that train nothing write real results in a real launch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.scheduler import STUDY
from benchmarks.stand_ins import KIND, environment
from jobs.results import open_store, read_trials
from tests.another_finetuning import registered

ROWS = 15


@pytest.mark.slow(60)
def test_a_launch_of_stand_ins_commits_every_row(tmp_path: Path) -> None:
    study, root, out = tmp_path / "study.yaml", tmp_path / "root", tmp_path / "out.json"
    study.write_text(STUDY.format(images=[50], epochs=ROWS, seeds=1, cpu=1))
    command = [sys.executable, "-m", "benchmarks.launched", str(study), str(root), str(out)]
    subprocess.run(command, check=True, env=environment(), timeout=200)
    with registered(KIND):
        table = read_trials(open_store(root), KIND.name)
    assert (len(table), len(table["trial_id"].unique())) == (4 * ROWS, 4)
    assert set(table["origin"].to_pylist()) == {"run"}
    assert set(table["test_loss"].to_pylist()) == {1.5}, "something was trained"
    times = json.loads(out.read_text())
    assert times["first"] <= times["ended"]
    assert not list((root / "checkpoints").rglob("*"))
