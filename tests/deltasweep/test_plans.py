"""Plans from Python are those of the command line."""

import json
import sys
from pathlib import Path

import pytest

import deltasweep as ds
from jobs.errors import Code, InvalidRequest
from orchestrator.cli.main import main
from tests.deltasweep.support import small
from tests.support import refused


def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """Return what a command prints."""
    monkeypatch.setattr(sys, "argv", ["deltasweep", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    return capsys.readouterr().out


def test_a_plan_is_that_of_the_command(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(small(schedule=[{"images": [20], "epochs": 1, "seeds": 3, "evaluate_every": 1}]).yaml())
    made = ds.plan(file, finished, gpu="L4")
    assert (made.study, made.trials, made.done, made.pending) == ("small", 6, 4, 2)
    command = ["plan", str(file), "--results", str(finished), "--gpu", "L4"]
    assert repr(made) == printed(capsys, monkeypatch, *command).rstrip("\n")
    plain = json.loads(printed(capsys, monkeypatch, *command, "--json"))
    assert made.to_dict().keys() == plain.keys() - {"compare"}
    assert (made.hours, made.dollars, made.memory) == (plain["gpu_hours"], plain["cost_on_demand"], plain["memory"])
    assert (made.operations, made.spot_dollars) == (plain["flops"], plain["cost_spot"])


def test_the_root_of_the_environment_counts(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert small().plan().done == 0
    monkeypatch.setenv("DELTASWEEP_RESULTS", str(finished))
    assert small().plan().done == 8


def test_what_a_notebook_shows() -> None:
    shown = ds.plan(small(), price=2)._repr_html_()
    for text in (
        "small: 8 trials: 0 done, 8 pending",
        ">time</th>",
        ">money</th>",
        "($2 per A10G-hour",
        ">memory</th>",
    ):
        assert text in shown


def test_notebooks_take_money_for_no_mathematics(finished: Path) -> None:
    """What is between two dollar signs would be typeset; both classes are asked for, by versions of MathJax."""
    study = small()
    for shown in (
        study._repr_html_(),
        study.plan(price=2)._repr_html_(),
        ds.status(finished)._repr_html_(),
        ds.deltas(finished)._repr_html_(),
    ):
        assert shown.startswith('<div class="deltasweep tex2jax_ignore mathjax_ignore">')


def test_what_cannot_be_planned() -> None:
    with refused(Code.UNKNOWN_NAME, "A10G", kind=InvalidRequest, key="--gpu"):
        small().plan(gpu="A11")
    with refused(Code.UNKNOWN_NAME, "attck:1", kind=InvalidRequest, key="--accept-numerics"):
        small().plan(accept_numerics=["attck:1"])
