"""`--ui` of the commands that launch: who serves the live page, and what they print of it."""

import pytest

from orchestrator.cli import output, sweeps
from orchestrator.cli.ended import Ended
from orchestrator.cli.output import somebody_looks
from orchestrator.launching.launch import Summary
from orchestrator.launching.request import LaunchRequest
from orchestrator.live import beside
from orchestrator.live.served import ServedPage
from orchestrator.process.terminal import Terminal
from orchestrator.ray_tune import submit
from orchestrator.ray_tune.submit import Heard, ListeningEnd, Submission
from tests.orchestrator.support import Command

STUDY = """
name: mini
grid: {source: [fmnist_natural, fmnist_l2_eps1], dataset: [digits], blocks: [0]}
contrasts: [{source: fmnist_l2_eps1, baseline: fmnist_natural, blocks: [0]}]
schedule: [{images: [20], epochs: 1, seeds: 2, evaluate_every: 1}]
"""
ADDRESS = "http://127.0.0.1:1/?token=x"


@pytest.fixture
def mini(deltasweep: Command) -> Command:
    (deltasweep.folder / "mini.yaml").write_text(STUDY, encoding="utf-8")
    return deltasweep


@pytest.mark.parametrize(
    ("options", "on_terminal", "serves"),
    [([], True, True), ([], False, False), (["--ui"], False, True), (["--no-ui"], True, False)],
)
@pytest.mark.parametrize("words", [["demo"], ["launch", "mini.yaml"], ["resume"]])
@pytest.mark.usefixtures("short_tests", "without_ray")
def test_the_page_is_served_as_asked_or_if_somebody_looks(
    words: list[str],
    options: list[str],
    on_terminal: bool,
    serves: bool,
    mini: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []

    def run_launch(study: object, results: str, request: LaunchRequest) -> Ended:
        asked.append(request.ui)
        return Ended("mini", results, "", Summary(2, 0, {}, None))

    assert mini("launch", "mini.yaml", "--results", "root", "--max-trials", "1").code == 0  # there is one to resume
    monkeypatch.setattr(sweeps, "somebody_looks", lambda: on_terminal)
    monkeypatch.setattr(sweeps, "run_launch", run_launch)
    mini(*words, "--results", "root", *options)
    assert asked == [serves]


@pytest.mark.parametrize(
    ("on_terminal", "quiet", "looks"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_nobody_looks_at_a_pipe_or_a_quiet_launch(
    on_terminal: bool, quiet: bool, looks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "notes", Terminal(force_terminal=on_terminal, quiet=quiet))
    monkeypatch.setenv("TERM", "xterm")
    assert somebody_looks() == looks


@pytest.mark.usefixtures("short_tests", "without_ray")
def test_a_launch_prints_the_address_once_the_root_exists(mini: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(root: str, served: ServedPage, request: LaunchRequest, tell: object) -> str:
        assert (mini.folder / "root" / "studies").is_dir()
        assert (root, request.gpu, request.price) == (str(mini.folder / "root"), "H100", 2.5)
        assert served.is_needed()
        return ADDRESS

    monkeypatch.setattr(beside, "_serve", serve)
    result = mini("launch", "mini.yaml", "--results", "root", "--ui", "--gpu", "H100", "--price", "2.5")
    assert (result.code, f"Live page: {ADDRESS}\n" in result.out) == (0, True)
    assert not ServedPage(str(mini.folder / "root")).is_needed(), "the launch has ended"
    monkeypatch.setattr(beside, "_serve", lambda *_: ADDRESS)
    again = mini("launch", "mini.yaml", "--results", "root", "--ui")
    assert (again.code, f"Live page: {ADDRESS}\n" in again.out) == (0, True), "though nothing is left to run"


@pytest.mark.parametrize("words", [["launch", "mini.yaml"], ["resume"]])
def test_a_submitted_launch_serves_nothing(words: list[str], mini: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "submit", lambda *_: Submission("http://127.0.0.1:8265", "job-1"))
    monkeypatch.setattr(submit, "listen", lambda *_: Heard(ListeningEnd.FINISHED, 0))
    monkeypatch.setattr(sweeps, "somebody_looks", lambda: True)
    where = ["--submit", "--address", "http://127.0.0.1:8265", "--results", "s3://bucket/root"]
    command = "deltasweep ui --results s3://bucket/root"
    submitted = mini(*words, *where)
    assert (submitted.code, f"Live page: {command}\n" in submitted.out) == (0, True)
    refused = mini(*words, *where, "--ui")
    assert (refused.code, refused.out, "--ui" in refused.message, command in refused.message) == (2, "", True, True)
