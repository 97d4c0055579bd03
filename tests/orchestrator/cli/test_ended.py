"""What the command line says after a launch: above all, which command continues it."""

from pathlib import Path

import pytest

from orchestrator.cli.ended import Ended
from orchestrator.cli.launch_request import resume_command
from orchestrator.launching.launch import Summary
from orchestrator.launching.request import LaunchRequest
from orchestrator.ray_tune.submit import SUBMITTED_VARIABLE

CONTINUES = "deltasweep resume --results root --study mini"


@pytest.mark.parametrize(
    ("summary", "command"),
    [
        (None, CONTINUES),
        (Summary(100, 98, {}), CONTINUES),
        (Summary(100, 97, {"x-1": "no", "x-2": "no"}), CONTINUES),
        (Summary(100, 98, {"x-1": "no", "x-2": "no"}), f"{CONTINUES} --retry-quarantined"),
        (Summary(100, 100, {}), None),
    ],
)
def test_the_next_command_does_something(
    summary: Summary | None, command: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script that runs it until there is none comes to an end."""
    ended = Ended("mini", "root", CONTINUES, summary)
    assert ended.plain()["resume"] == command
    ended.tell()
    shown = "".join(capsys.readouterr())
    assert (CONTINUES in shown) is (command is not None)
    assert ("--retry-quarantined" in shown) is ("--retry-quarantined" in (command or ""))


def test_a_launch_continues_where_it_ran_and_within_its_limits() -> None:
    request = LaunchRequest(
        address="10.0.0.1:6379",
        max_trials=5,
        retry_quarantined=True,
        max_cost=200,
        max_hours=2.5,
        hang_after=90,
        gpu="H100",
        price=1.2,
        accept_numerics=["finetune:1"],
        builders=[Path("my nets/net.py")],
    )
    assert resume_command(request, "s3://b/p", "paper") == (
        "deltasweep resume --results s3://b/p --study paper --address 10.0.0.1:6379 --retry-quarantined --max-cost 200 "
        "--max-hours 2.5 --hang-after 90 --gpu H100 --price 1.2 --accept-numerics finetune:1 --builder 'my nets/net.py'"
    )
    assert resume_command(LaunchRequest(), "root", "mini") == CONTINUES


def test_a_submitted_launch_is_continued_by_another_submission(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its output is printed on the machine that submitted it, where `resume` alone would run the trials."""
    monkeypatch.setenv(SUBMITTED_VARIABLE, "http://127.0.0.1:8265")
    assert resume_command(LaunchRequest(), "s3://b/p", "mini") == (
        "deltasweep resume --submit --results s3://b/p --study mini --address http://127.0.0.1:8265"
    )
