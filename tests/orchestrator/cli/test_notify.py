"""`launch --notify CMD`: what the command is told, when it runs, and that nothing of it changes the launch."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import Code, InvalidRequest, StorageFailure
from orchestrator.cli import notification
from orchestrator.failures.outcomes import StopCause
from orchestrator.launching.launch_state import LaunchState
from orchestrator.ray_tune import tuner
from tests.orchestrator.support import Command, Result

pytestmark = pytest.mark.usefixtures("short_tests", "without_ray")

STUDY = """
name: mini
grid: {source: [fmnist_natural], dataset: [digits], blocks: [0]}
schedule: [{images: [20], epochs: 1, seeds: 2, evaluate_every: 1}]
"""
TELL = 'env > told.env; cat > told.json; echo "ran: $DELTASWEEP_STATUS"'
NAMES = {"STATUS", "EXIT_CODE", "STUDY", "RESULTS", "PLANNED", "DONE", "LEFT", "FAILED", "MESSAGE"}


@pytest.fixture
def launch(deltasweep: Command, monkeypatch: pytest.MonkeyPatch) -> Any:
    (deltasweep.folder / "mini.yaml").write_text(STUDY, encoding="utf-8")
    monkeypatch.delenv("DELTASWEEP_RESULTS", raising=False)

    def launched(*arguments: str, study: str = "mini.yaml", results: str = "root", command: str = TELL) -> Result:
        return deltasweep("launch", study, "--results", results, "--notify", command, *arguments)

    launched.folder = deltasweep.folder  # type: ignore[attr-defined]
    launched.command = deltasweep  # type: ignore[attr-defined]
    return launched


def told(folder: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the variables and the JSON that the command was given; it must have run."""
    lines = (folder / "told.env").read_text(encoding="utf-8").splitlines()
    pairs = dict(line.split("=", 1) for line in lines if line.startswith("DELTASWEEP_"))
    facts = json.loads((folder / "told.json").read_text(encoding="utf-8"))
    (folder / "told.env").unlink()
    return {name.removeprefix("DELTASWEEP_"): value for name, value in pairs.items()}, facts


def test_a_launch_that_is_done(launch: Any) -> None:
    result = launch("--json")
    variables, facts = told(launch.folder)
    assert result.code == 0
    assert facts == json.loads(result.out), "the same as launch --json, which the command's own output does not disturb"
    assert variables.keys() >= NAMES
    expected = {"STATUS": "done", "EXIT_CODE": "0", "STUDY": "mini", "RESULTS": "root", "MESSAGE": ""}
    expected |= {"PLANNED": "2", "DONE": "2", "LEFT": "0", "FAILED": "0"}
    assert {name: variables[name] for name in expected} == expected


def test_resume_notifies_too(launch: Any) -> None:
    launch("--max-trials", "1")
    assert told(launch.folder)[0]["LEFT"] == "1"
    assert launch.command("resume", "--results", "root", "--notify", TELL).code == 0
    assert told(launch.folder)[0]["DONE"] == "2"


@pytest.mark.parametrize(
    ("cause", "status", "code"),
    [(StopCause.LIMIT, "stopped", 1), (StopCause.STORAGE, "stopped", 3), (StopCause.INTERRUPTED, "interrupted", 130)],
)
def test_a_launch_that_stops(
    cause: StopCause, status: str, code: int, launch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuner, "run_round", lambda *given: given[-1].request_stop(cause, "the\nreason"))
    assert launch().code == code
    variables, facts = told(launch.folder)
    assert (variables["STATUS"], variables["EXIT_CODE"], variables["LEFT"]) == (status, str(code), "2")
    assert variables["MESSAGE"] == "the\\u000areason"
    assert facts["resume"].startswith("deltasweep resume --results root")


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupted_launch(times: int, launch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_round(bundles: object, job: object, share: object, state: LaunchState) -> None:
        for _ in range(times):
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(tuner, "run_round", run_round)
    assert launch().code == 130
    assert told(launch.folder)[0]["STATUS"] == "interrupted"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StorageFailure(Code.STORAGE, "it is full"), 3),
        (InvalidRequest(Code.NO_CLUSTER, "none"), 3),
        (KeyError("x"), 70),
    ],
)
def test_a_launch_that_ends_with_an_error(
    error: Exception, code: int, launch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(tuner, "run_round", fail)
    assert launch().code == code
    variables, facts = told(launch.folder)
    assert (variables["STATUS"], variables["EXIT_CODE"]) == ("error", str(code))
    assert facts["error"]["message"] == variables["MESSAGE"] != ""
    assert (variables["STUDY"], facts["study"], variables["PLANNED"]) == ("mini", "mini", "")
    assert launch.command("resume", "--results", "root", "--notify", TELL).code == code
    assert told(launch.folder)[0]["STUDY"] == "mini"


def test_a_wrong_request_is_told_before_anything_is_written(launch: Any) -> None:
    result = launch(study="nowhere.yaml")
    variables, facts = told(launch.folder)
    assert (result.code, variables["STATUS"], variables["STUDY"]) == (2, "error", "nowhere.yaml")
    assert facts["error"]["code"] == "no-such-file"
    assert not (launch.folder / "root").exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [("exit 7", "exited with 7"), ("no-such-command-here", "exited with 127"), ("kill -9 $$", "exited with -9")],
)
def test_a_command_that_fails_is_told_and_changes_no_exit_code(command: str, words: str, launch: Any) -> None:
    result = launch(command=command)
    assert result.code == 0
    assert f"warning: the command of --notify {words}" in result.message


def test_a_command_that_hangs_is_killed(launch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notification, "SECONDS", 0.2)
    result = launch(command="exec sleep 60")
    assert result.code == 0
    assert "still running after 0.2 s and was killed" in result.message


@pytest.mark.parametrize(
    "bad", ["$(touch injected)", "`touch injected`", "'; touch injected; '", '"; touch injected; "']
)
def test_names_never_become_commands(bad: str, launch: Any) -> None:
    """The shell sees only the text that the user wrote."""
    result = launch(study=f"{bad}.yaml", results=f"{bad}/root", command=f'{TELL}; echo "$DELTASWEEP_MESSAGE"')
    assert result.code == 2
    variables, facts = told(launch.folder)
    assert variables["RESULTS"] == facts["results"] == f"{bad}/root"
    assert not (launch.folder / "injected").exists()
