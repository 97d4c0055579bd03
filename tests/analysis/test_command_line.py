"""The analysis verbs, as a user types them."""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.results import LocalStore, record_study
from orchestrator.cli.main import main
from tests.analysis.support import Build

STUDY: dict[str, Any] = {
    "name": "mine",
    "contrasts": [
        {"source": "robust", "baseline": "natural", "blocks": [3]},
        {"source": "robust", "baseline": "natural", "blocks": [3], "epoch": 11},
    ],
    "grid": {"source": ["natural", "robust"], "dataset": ["digits", "mnist"], "blocks": [3]},
    "schedule": [{"images": [100], "epochs": 30, "seeds": 3, "evaluate_every": 10}],
    "recipe": {},
}


Command = Callable[..., tuple[int, str, str]]
"""Return the exit code, output and message of the command with these arguments."""


@pytest.fixture
def root(build: Build) -> Path:
    gain = {"natural": 0.0, "robust": 4.0, "other": 2.0}
    trials = [
        build.trial(source, seed, {11: 30.0 + seed % 2 + gain[source], 30: 50.0 + gain[source] * (1 + seed)}, **point)
        for source in gain
        for point in ({"dataset": "digits"}, {"dataset": "mnist"}, {"dataset": "digits", "blocks": 1})
        for seed in range(3)
    ]
    made = build.root(trials)
    record_study(LocalStore(made), "mine", "d1", json.dumps(STUDY))
    return made


@pytest.fixture
def deltasweep(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, root: Path) -> Command:
    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["deltasweep", *arguments, "--results", str(root)])
        with pytest.raises(SystemExit) as caught:
            main()
        said = capsys.readouterr()
        return int(caught.value.code or 0), said.out, said.err

    return run


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_deltas_narrowed_keep_the_family(deltasweep: Command) -> None:
    key = ("source", "dataset", "blocks", "images", "epoch")
    whole = {tuple(row[name] for name in key): row for row in table(deltasweep("deltas", "--format", "csv")[1])}
    assert len(whole) == 2 * 3 + 2  # both sources at the last epoch, and the contrast at epoch 11
    for options, expected in (
        (("--study", "mine"), 4),
        (("--source", "robust"), 5),
        (("--source", "robust", "--source", "other"), 8),
        (("--dataset", "mnist"), 3),
        (("--blocks", "1"), 2),
        (("--epoch", "last"), 6),
        (("--epoch", "11", "--study", "mine"), 2),
        (("--study", "mine", "--dataset", "digits", "--blocks", "3", "--epoch", "30", "--source", "robust"), 1),
    ):
        code, out, _ = deltasweep("deltas", "--format", "csv", *options)
        found = table(out)
        assert (code, len(found)) == (0, expected), options
        for row in found:
            same = whole.get(tuple(row[name] for name in key))
            assert same is not None, options
            assert (row["p_holm"], row["mean_delta"]) == (same["p_holm"], same["mean_delta"])
    corrected = [row for row in whole.values() if row["p_holm"]]
    assert {row["method"].partition("; ")[2] for row in corrected} == {"Holm over 4 cells of the contrasts of mine"}
    assert len(corrected) == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--study", "yours"), "the study 'yours' is not recorded in the results root; recorded are mine"),
        (("--source", "nobody"), "no evaluation has the source nobody; available: natural, other, robust"),
        (("--dataset", "nothing"), "no evaluation has the dataset nothing; available: digits, mnist"),
        (("--blocks", "9"), "no evaluation has the blocks 9; available: 1, 3"),
        (
            ("--dataset", "mnist", "--blocks", "1"),
            "no evaluation with the dataset mnist has the blocks 1; available: 3",
        ),
        (("--epoch", "7"), "evaluated epochs: 11, 30"),
        (("--epoch", "first"), "expected an epoch: a number from 1, 'last' (each trial's own) or 'all'; got 'first'"),
        (("--epoch", "0"), "expected an epoch: a number from 1"),
    ],
)
def test_unknown_values_are_one_message(deltasweep: Command, options: tuple[str, ...], words: str) -> None:
    code, out, message = deltasweep("deltas", *options)
    assert (code, out) == (2, "")
    assert words in message
    assert message.count("deltasweep:") == 1


def test_declared_equivalences_follow_the_deltas_and_are_data_of_their_own(deltasweep: Command, root: Path) -> None:
    """The root has trials of one recipe, so every cell of the other is planned and empty."""
    before = {form: deltasweep("deltas", "--format", form)[1] for form in ("table", "csv", "json")}
    assert deltasweep("deltas", "--equivalences")[:2] == (0, "No recorded study declares an equivalence.\n")
    assert table(deltasweep("deltas", "--equivalences", "--format", "csv")[1]) == []
    grid = {**STUDY["grid"], "recipe": {"precision": ["float32", "bfloat16"]}}
    sides = {"recipe": {"precision": "bfloat16"}, "against": {"precision": "float32"}}
    arms = {"source": "robust", "baseline": "natural", "blocks": [3]}
    study = {
        **STUDY,
        "name": "precise",
        "grid": grid,
        "contrasts": [],
        "equivalences": [{**arms, **sides, "within": 1}],
    }
    record_study(LocalStore(root), "precise", "d1", json.dumps(study))
    after = {form: deltasweep("deltas", "--format", form)[1] for form in ("table", "csv", "json")}
    assert (after["csv"], after["json"]) == (before["csv"], before["json"])
    assert after["table"].startswith(before["table"])
    block = after["table"].removeprefix(before["table"])
    assert "Equivalence declared by precise: robust minus natural, blocks 3, last epoch" in " ".join(block.split())
    assert "Not shown: the change is within 1 percentage point in 0 of 2 cells" in block
    assert "Equivalence" not in deltasweep("deltas", "--study", "mine")[1]
    assert deltasweep("deltas", "--equivalences", "--study", "precise")[1] == block.removeprefix("\n")
    rows = table(deltasweep("deltas", "--equivalences", "--format", "csv")[1])
    assert [(row["dataset"], row["n_pairs"], row["n_unpaired"], row["verdict"]) for row in rows] == [
        ("digits", "0", "3", "not shown"),
        ("mnist", "0", "3", "not shown"),
    ]
    for options in (("--dataset", "mnist"), ("--blocks", "3"), ("--epoch", "30"), ("--baseline", "natural")):
        code, out, message = deltasweep("deltas", "--equivalences", *options)
        assert (code, out) == (2, "")
        assert options[0] in message


def test_a_report_that_has_no_place_is_one_message(deltasweep: Command, root: Path) -> None:
    (root.parent / "file").write_text("kept")
    code, out, message = deltasweep("report", "--out", str(root.parent / "file" / "below"))
    assert (code, out) == (2, "")
    assert "name another with --out" in message


def test_a_query_in_every_format(deltasweep: Command) -> None:
    sql = "SELECT source, count(*) AS n FROM trials GROUP BY ALL ORDER BY ALL"
    assert json.loads(deltasweep("query", sql, "--format", "json")[1])[0] == {"source": "natural", "n": 9}
    assert deltasweep("query", sql, "--format", "csv")[1].splitlines() == [
        "source,n",
        "natural,9",
        "other,9",
        "robust,9",
    ]
    assert "natural" in deltasweep("query", sql)[1]
