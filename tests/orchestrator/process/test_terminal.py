"""Untrusted text in names, reasons, hosts and logs is shown on the terminal but never interpreted by it."""

import io
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.live import Live
from rich.table import Table

from analysis.output.grid import grid
from jobs.results import Failure, FailureKind, open_store, record_failure, write_launch
from jobs.study.expand import expand
from jobs.system.printable import printable
from orchestrator.launching.heartbeat import new_launch
from orchestrator.launching.local import run_locally
from orchestrator.planning.status import watch_status
from orchestrator.process.terminal import Terminal
from orchestrator.study.load import parse_study
from tests.orchestrator.support import Command

OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
BAD = {
    "clears the screen": "\x1b[2J\x1b[H",
    "a window's title": "\x1b]0;owned\x07",
    "a link": "\x1b]8;;http://evil\x1b\\text\x1b]8;;\x1b\\",
    "C1": "\x9b2J\x90\x9d0;x\x9c",
    "a bell": "\x07",
    "backspaces": "safe\b\b\b\bevil",
    "over the line": "failed\rdone  ",
    "a form feed": "\x0c\x0b\x0e",
    "the other way": "\u202efdp.exe\u202c",
    "isolates": "\u2066x\u2069\u200f\u061c",
    "a device query": "\x1b[6n\x1bP$q\x1b\\",
    "no text": "caf\udce9",
    "NUL and DEL": "\x00\x7f",
    "line separators": "a\u2028b\u2029c\x85d",
}
MARKUP = [
    "[red]",
    "[/]",
    "[bold]x[/bold]",
    "[link=http://x]y[/link]",
    ":warning:",
    "[/red]",
    "\\[red]",
    "[@click=app.bell]z",
]


def shown(print_on: Callable[[Terminal], object], *, terminal: bool = False) -> str:
    text = io.StringIO()
    print_on(Terminal(file=text, width=200, force_terminal=terminal, color_system="truecolor" if terminal else None))
    return text.getvalue()


def a_table(text: str) -> Table:
    table = Table(text, title=text)
    table.add_row(text)
    return table


PRINTS: dict[str, Callable[[str], Callable[[Terminal], object]]] = {
    "text": lambda text: lambda console: console.print(text),
    "a table": lambda text: lambda console: console.print(a_table(text)),
    "the end": lambda text: lambda console: console.print("x", end=text),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("how", PRINTS)
def test_controls_are_written_out(bad: str, how: str) -> None:
    said = shown(PRINTS[how](BAD[bad]))
    assert OBEYED.findall(said) == []


@pytest.mark.parametrize("text", MARKUP)
@pytest.mark.parametrize("how", PRINTS)
def test_markup_is_text(text: str, how: str) -> None:
    assert text in shown(PRINTS[how](text))


def test_rich_s_own_colours_and_cursor_stay() -> None:
    def live(console: Terminal) -> None:
        with Live("x", console=console, auto_refresh=False) as one:
            one.update(a_table("\x1b[2Jy"), refresh=True)

    said = shown(live, terminal=True)
    assert "\\u001b[2Jy" in said
    assert "\x1b[1m" in said, "a table's heading is bold"
    assert "\x1b[?25l" in said, "the cursor is hidden"
    assert "\x1b[2J" not in said


def test_colours_of_logs_are_left_out_and_lines_kept() -> None:
    assert printable("\x1b[36m(pid=7)\x1b[0m a\r\nb\tc\n") == "(pid=7) a\nb\tc\n"


@given(st.text())
def test_what_is_printable_stays_so(text: str) -> None:
    once = printable(text)
    assert OBEYED.findall(once) == []
    assert printable(once) == once
    if not OBEYED.findall(text):
        assert once == text


@pytest.mark.parametrize("bad", BAD)
def test_tables_of_queries(bad: str) -> None:
    said = grid({f"name{BAD[bad]}": [BAD[bad], "[red]"]}, set())
    assert OBEYED.findall(said) == []
    assert "[red]" in said


STUDY = """
name: stranger
grid: {source: [fmnist_natural], dataset: [digits], blocks: [0]}
schedule: [{images: [20], epochs: 1, seeds: 2, evaluate_every: 1}]
"""
ALL_BAD = "".join(BAD.values()) + "".join(MARKUP)


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A study in which everything that others can write is malicious."""
    study = parse_study(STUDY, "stranger.yaml")
    store, (done, failed) = open_store(tmp_path / "root"), [spec.trial_id for spec in expand(study)]
    run_locally(study, done, store, Terminal(quiet=True))
    write_launch(store, new_launch(study.name, study.digest)._replace(host=WRITABLE, user=WRITABLE))
    for attempt, kind in enumerate((FailureKind.INFRASTRUCTURE, FailureKind.ERROR), 1):
        record_failure(
            store,
            Failure(
                trial_id=failed,
                attempt=attempt,
                kind=kind,
                error=WRITABLE,
                reason=WRITABLE,
                host=WRITABLE,
                launch=WRITABLE,
                failed_at=f"2026-01-01T00:00:0{attempt}+00:00",
            ),
            WRITABLE,
        )
    return store.uri


WRITABLE = ALL_BAD.replace("\udce9", "")


def test_no_command_hands_controls_on(deltasweep: Command, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = next(open_store(root).keys("failures")).split("/")[1]
    for arguments in (
        ("status",),
        ("status", "--json"),
        ("logs", failed),
        ("query", "SELECT * FROM failures"),
        ("query", "SELECT * FROM failures", "--format", "json"),
        ("verify",),
    ):
        result = deltasweep(*arguments, "--results", root)
        assert OBEYED.findall(result.out + result.message) == [], arguments
    assert "[red]" in deltasweep("logs", failed, "--results", root).out
    assert ":warning:" in deltasweep("status", "--results", root).out


@pytest.mark.parametrize("bad", BAD)
def test_errors_about_what_the_user_named(deltasweep: Command, bad: str) -> None:
    text = BAD[bad].replace("\x00", "")
    for arguments in (
        ("plan", f"{text}.yaml"),
        ("models", "fetch", text),
        ("models", "convert", text, "--as", "natural"),
        ("data", "describe", text),
        ("query", text, "--results", text),
    ):
        result = deltasweep(*arguments)
        assert result.code == 2
        assert OBEYED.findall(result.message) == [], arguments


def test_what_is_watched(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def enough(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.planning.status.time.sleep", enough)

    def watch(console: Terminal) -> None:
        with pytest.raises(KeyboardInterrupt):
            watch_status(open_store(root), parse_study(STUDY, "stranger.yaml"), console)

    said = shown(watch)
    assert "1 done" in said
    assert OBEYED.findall(said) == []


ENDLESS = "SELECT count(*) FROM range(1e9::BIGINT) a, range(1e9::BIGINT) b"


def test_ctrl_c_while_the_thread_of_a_query_starts_is_one_line(
    deltasweep: Command, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread is running at that point, and is ended before its connection is closed."""
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        if thread.name == "query":
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    result = deltasweep("query", ENDLESS, "--results", root)
    assert (result.code, result.out, result.message) == (130, "", "deltasweep: interrupted")


def test_ctrl_c_in_a_query_is_one_line(deltasweep: Command, root: str) -> None:
    def interrupt() -> None:
        while not any(thread.name == "query" for thread in threading.enumerate()):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    signalling = threading.Thread(target=interrupt)
    signalling.start()
    result = deltasweep("query", ENDLESS, "--results", root)
    signalling.join()
    assert (result.code, result.out, result.message.count("\n")) == (130, "", 0)
    assert result.message == "deltasweep: interrupted"


@pytest.mark.parametrize("seconds", ["0.2", "0", "-1", "nan", "inf"])
def test_a_query_s_time(deltasweep: Command, root: str, seconds: str) -> None:
    result = deltasweep("query", ENDLESS, "--results", root, "--timeout", seconds)
    assert result.code == 2
    assert "--timeout" in result.message or "seconds, more than 0" in result.message
