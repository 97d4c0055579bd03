"""What a new user sees: `deltasweep demo`, run as a command in a separate process."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.data import locate
from jobs.results import done, open_store
from jobs.study.expand import expand
from jobs.study.model import Study
from orchestrator.cli import main, sweeps
from orchestrator.cli.ended import Ended
from orchestrator.failures.outcomes import Stop, StopCause
from orchestrator.launching.launch import Summary
from orchestrator.launching.request import LaunchRequest
from orchestrator.study.load import load_study
from tests.support import finetune_specs


def test_the_demo_study_is_what_it_should_be() -> None:
    """Natural, L2 and L-infinity sources; at least 3 sizes, 5 seeds and 40 trials, of at least 30 epochs each."""
    study = load_study("demo")
    trials = finetune_specs(expand(study))
    assert {"fmnist_natural", "fmnist_l2_eps1", "fmnist_linf_eps8"} <= {trial.source for trial in trials}
    assert len({trial.images for trial in trials}) >= 3
    assert len({trial.seed for trial in trials}) >= 5
    assert len(trials) >= 40
    assert min(trial.epochs for trial in trials) >= 30


@pytest.mark.parametrize(("here", "serves"), [(True, False), (False, True)])
@pytest.mark.parametrize(("first", "code"), [("done", 0), ("failed", 1), ("interrupted", 130)])
def test_the_full_demo(
    here: bool, serves: bool, first: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Launch all demo studies, including `demo-sources` if Fashion-MNIST is available.

    A later study's exit code must not hide that of the first.
    """
    launched: list[str] = []
    roots: dict[str, str] = {}

    def launch(study: Study, results: str, request: LaunchRequest) -> Ended:
        assert request.ui == serves
        launched.append(study.name)
        roots[study.name] = results
        state = first if study.name == "demo-full" else "done"
        stop = Stop(StopCause.INTERRUPTED, "SIGINT") if state == "interrupted" else None
        summary = Summary(1, 0, {"x": "why"} if state == "failed" else {}, stop)
        return Ended(study.name, results, "deltasweep resume", summary)

    monkeypatch.setattr(sweeps, "run_launch", launch)
    monkeypatch.setattr(locate, "find", lambda card: tmp_path if here else None)
    ui = ["--ui"] if serves else []
    ended = CliRunner().invoke(main.app, ["demo", "--full", "--results", str(tmp_path / "root"), *ui])
    assert ended.exit_code == code
    more = ["demo-claims", "demo-networks", "demo-texture", "demo-shape", "demo-fourier"]
    more += ["demo-sources"] if here else []
    assert launched == ["demo-full", *([] if first == "interrupted" else [*more, "demo-confound"])]
    assert {name: root for name, root in roots.items() if root != str(tmp_path / "root")} == (
        {} if first == "interrupted" else {"demo-confound": str(tmp_path / "root-confound")}
    )
    assert CliRunner().invoke(main.app, ["demo", *ui]).exit_code == 0
    assert launched[-1] == "demo"


@pytest.mark.parametrize(("done", "told"), [(2, True), (1, False)])
def test_a_finished_launch_says_what_to_do_next(done: int, told: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """For trials of every kind: only ``report`` has something for each."""
    failed = {} if done == 2 else {"a-trial": "why"}
    Ended("mine", "my root", "deltasweep resume", Summary(2, done, failed, None)).tell_next()
    assert ("deltasweep report --results 'my root'" in capsys.readouterr().out) == told


@pytest.mark.slow(500)
@pytest.mark.timeout(1800)
def test_the_demo_runs_and_reports(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("deltasweep")), "demo", "--results", "root"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    trials = {spec.trial_id for spec in expand(load_study("demo"))}
    assert done(open_store(tmp_path / "root"), "finetune") == trials
    assert f"{len(trials)} of {len(trials)} trials are done." in first.stdout
    assert "fmnist_l2_eps1" in first.stdout
    assert "95 % interval" in first.stdout
    page = tmp_path / "root" / "report" / "index.html"
    assert first.stdout.replace("\n", "").endswith(f"Report: {page}Live page: deltasweep ui --results root")
    assert page.stat().st_size > 100_000
    assert (page.parent / "figure2.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (page.parent / "figure2.svg").read_text()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "root" / "trials").rglob("*.parquet")}
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "root" / "trials").rglob("*.parquet")}
