"""The progress line of a launch."""

import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from jobs.results import open_store
from orchestrator.launching.launch import launch
from orchestrator.launching.launch_state import LaunchState
from orchestrator.launching.progress import ProgressView, Tallies
from orchestrator.process.numbers_as_text import duration
from orchestrator.process.terminal import Terminal
from orchestrator.ray_tune import tuner
from orchestrator.study.load import parse_study
from tests.documentation import ROOT
from tests.orchestrator.in_process import replace_ray

STUDY = """
name: mini
grid: {source: [fmnist_natural], dataset: [digits], blocks: [0]}
schedule: [{images: [20], epochs: 1, seeds: 1, evaluate_every: 1}]
"""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0s"),
        (0.4, "0s"),
        (45, "45s"),
        (59.4, "59s"),
        (59.6, "1m 00s"),
        (60, "1m 00s"),
        (130, "2m 10s"),
        (3599, "59m 59s"),
        (3599.7, "1h 00m"),
        (11_100, "3h 05m"),
        (86_399, "23h 59m"),
        (86_400, "1d 0h"),
        (187_200, "2d 4h"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_line_at_the_start() -> None:
    assert Tallies(planned=80, started=0).line(now=5) == (
        "done 0/80 · failed 0 · running 0 · 0/min · time left unknown"
    )


def test_a_line_in_the_middle() -> None:
    tallies = Tallies(planned=80, done_before=20, done=28, failed=2, running=2, started=100)
    # 30 finished in 60 s, 30 left
    assert tallies.left == 30
    assert tallies.line(now=160) == "done 48/80 · failed 2 · running 2 · 30/min · 1m 00s left"


def test_the_time_left_counts_operations_and_not_trials() -> None:
    """The longest trials run first: 4 of 10 trials were 80 of 100 operations."""
    tallies = Tallies(planned=10, done=4, running=1, started=0, operations=100.0, operations_done=80.0)
    assert tallies.line(now=80).endswith("20s left")
    tallies.failed = 1
    assert tallies.line(now=80).endswith("10s left"), "a failed trial leaves an average amount of work less"
    tallies.done, tallies.operations_done = 9, 90.0
    assert tallies.line(now=80).endswith("0s left")


def test_a_line_at_the_end() -> None:
    tallies = Tallies(planned=80, done_before=20, done=60, started=0)
    assert tallies.line(now=120) == "done 80/80 · failed 0 · running 0 · 30/min · 0s left"


def test_what_was_done_before_does_not_count_into_the_rate() -> None:
    assert Tallies(planned=80, done_before=79, done=1, started=0).rate(now=10) == 0.1


def test_no_time_has_passed() -> None:
    assert "done 0/1" in Tallies(planned=1, started=5).line(now=5)


def test_off_a_terminal_progress_is_plain_lines_and_the_last_one_is_always_there() -> None:
    text = io.StringIO()
    tallies = Tallies(planned=2)
    with ProgressView(tallies, Console(file=text, width=200)) as view:
        for _ in range(50):
            view.update()
        tallies.done = 2
    lines = text.getvalue().splitlines()
    assert len(lines) == 2, "one at the first update, one at the end; not one an update"
    assert lines[0].startswith("done 0/2 ")
    assert lines[1].startswith("done 2/2 ")
    assert "\x1b" not in text.getvalue()


def test_slow_trials_have_a_rate_per_hour() -> None:
    tallies = Tallies(planned=10, done=2, running=1, started=0)
    assert tallies.line(now=3600) == "done 2/10 · failed 0 · running 1 · 2/h · 4h 00m left"


def test_a_launch_without_an_actor_says_what_it_waits_for() -> None:
    """Ray's workers have a low priority, and start late on a busy machine."""
    tallies = Tallies(planned=4, started=0, share="1 CPU and 0.5 GPU")
    assert tallies.at_work(now=15) == ""
    assert tallies.at_work(now=45) == "waiting for a machine with 1 CPU and 0.5 GPU to start an actor (45s)"
    tallies.failed = 4
    assert tallies.at_work(now=45) == "", "nothing is left"


def test_a_launch_that_has_lost_its_machines_waits_and_promises_no_end() -> None:
    tallies = Tallies(planned=80, done=79, started=0, last_ran=100, share="4 CPU")
    assert tallies.at_work(now=115) == ""
    assert tallies.line(now=115).endswith("s left")
    assert tallies.at_work(now=190) == "waiting for a machine with 4 CPU to start an actor (1m 30s)"
    assert tallies.line(now=190).endswith("time left unknown")
    tallies.running, tallies.names = 1, ("c",)
    assert tallies.at_work(now=190) == "c"
    assert tallies.line(now=190).endswith("s left")


@pytest.mark.usefixtures("short_tests")
def test_a_round_says_what_it_needs_and_when_it_last_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_ray(monkeypatch, tmp_path)
    told = list[str]()

    def run_round(bundles: Sequence[object], job: object, share: object, state: LaunchState) -> None:
        for running in ({"run": ("a-1",)}, {}):
            state.running = dict(running)
            state.on_change()

    def update(view: ProgressView, final: bool = False) -> None:
        told.append(view._tallies.at_work(time.monotonic() + 30))

    monkeypatch.setattr(tuner, "share_of", lambda *_: {"CPU": 1, "GPU": 0.25})
    monkeypatch.setattr(tuner, "run_round", run_round)
    monkeypatch.setattr(ProgressView, "update", update)
    launch(parse_study(STUDY, "mini.yaml"), open_store(tmp_path / "root"), Console(quiet=True))
    assert told[:2] == ["a", "waiting for a machine with 1 CPU and 0.25 GPU to start an actor (30s)"]


def test_what_runs_is_named_shortly() -> None:
    names = (
        "finetune-digits-fmnist_natural-k3-n50-s1-0123456789abcdef",
        "attack-digits-x-s2-0123456789abcdef",
        "c",
        "d",
    )
    assert Tallies(planned=4, started=0).at_work(now=5) == ""
    assert Tallies(planned=4, names=names[:1]).at_work(now=0) == "digits-fmnist_natural-k3-n50-s1"
    assert Tallies(planned=4, names=names).at_work(now=0) == "digits-fmnist_natural-k3-n50-s1, attack-digits-x-s2, +2"
    text = io.StringIO()
    with ProgressView(Tallies(planned=4, names=names), Console(file=text, width=20)) as view:
        view.update()
    assert all(line.endswith("attack-digits-x-s2, +2") for line in text.getvalue().splitlines()), "never folded"


SHOW = """
import sys, time
from orchestrator.launching.progress import ProgressView, Tallies
from orchestrator.process.terminal import Terminal
tallies = Tallies(planned=40, done=10, failed=1, names=("finetune-digits-fmnist_natural-k3-n50-s1-0123456789abcdef",))
with ProgressView(tallies, Terminal()) as view:
    time.sleep(0.7)
    tallies.done = 39
    view.update()
print("THE END")
"""


def shown(columns: int | None, **environment: str) -> str:
    """Return the bytes that the progress of a launch sends to a pipe (None) or to a terminal of this width, as text."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    inherited |= {"PYTHONPATH": str(ROOT), "TERM": "xterm", **environment}
    command = [sys.executable, "-c", SHOW]
    if columns is None:
        return subprocess.run(command, env=inherited, capture_output=True, text=True, check=True).stdout
    controller, terminal = pty.openpty()
    inherited["COLUMNS"] = str(columns)
    process = subprocess.Popen(command, env=inherited, stdout=terminal, stderr=terminal, stdin=terminal)
    os.close(terminal)
    data = b""
    while process.poll() is None or select.select([controller], [], [], 0)[0]:
        if select.select([controller], [], [], 0.1)[0]:
            try:
                data += os.read(controller, 65536)
            except OSError:  # closed
                break
    os.close(controller)
    assert process.wait() == 0
    return data.decode()


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1"}, {"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_in_a_pipe_there_are_plain_lines_whatever_the_environment(environment: dict[str, str]) -> None:
    lines = shown(None, **environment).splitlines()
    assert lines[-1] == "THE END"
    assert lines[-2].startswith("done 39/40 · failed 1 · running 0")
    assert "\x1b" not in "".join(lines)
    assert "\r" not in "".join(lines)


def test_on_a_dumb_terminal_too() -> None:
    said = shown(100, TERM="dumb")
    assert "done 39/40" in said
    assert "\x1b" not in said


@pytest.mark.parametrize("columns", [20, 100])
def test_on_a_terminal_lines_are_cut_at_its_width(columns: int) -> None:
    said = shown(columns)
    assert "\x1b[?25l" in said, "a live display"
    assert "\x1b[?25h" in said, "the cursor is back"
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said)
    assert max(len(line) for line in re.split(r"[\r\n]+", text)) <= columns
    assert ("digits-fmnist_natural" in text) == (columns == 100)


def test_without_colours_on_a_terminal() -> None:
    said = shown(100, NO_COLOR="1")
    assert "\x1b[?25l" in said
    assert re.findall(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", said) == []


def test_quietly_nothing_is_shown() -> None:
    text = io.StringIO()
    with ProgressView(Tallies(planned=4), Terminal(file=text, quiet=True)) as view:
        view.update()
    assert text.getvalue() == ""
