"""The progress line of a launch."""

import io

import pytest
from rich.console import Console

from orchestrator.launching.progress import ProgressView, Tallies
from orchestrator.process.numbers_as_text import duration


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
