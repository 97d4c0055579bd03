"""What enters no delta, and why."""

from typing import Any

import pytest

import analysis
from analysis.evaluations.frames import Epoch, frame
from analysis.output import formats
from analysis.paired.contrasts import Comparison, Declared
from analysis.paired.table import delta_cells
from analysis.paired.unpaired import NO_SEED, NO_TRIALS, without_pair, without_partner
from tests.analysis.support import Build, Rows

LAST = {30: 50.0}


def reasons(build: Build, *trials: Rows, epoch: Epoch = "last") -> list[str]:
    data = frame(build.table(trials))
    return [*delta_cells(data, [Comparison("robust", "natural")], Declared(()), epoch)["no_pair"]]


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({}, [""]),
        ({"images": 200}, [NO_TRIALS] * 2),
        ({"origin": "imported"}, [NO_TRIALS] * 2),
        ({"seed": 1}, [NO_SEED]),
        ({"accuracies": {10: 60.0}}, ["the trials of the two arms differ in epochs"] * 2),
        ({"recipe": "other"}, ["the trials of the two arms differ in recipe"] * 2),
        (
            {"recipe": "other", "numerics": 2, "accuracies": {10: 60.0}},
            ["the trials of the two arms differ in epochs and recipe and numerics"] * 2,
        ),
    ],
)
def test_why_a_cell_has_no_pair(build: Build, columns: dict[str, Any], why: list[str]) -> None:
    chosen: dict[str, Any] = {"seed": 0, "accuracies": LAST} | columns
    other = build.trial("robust", **chosen)
    assert reasons(build, build.trial("natural", 0, LAST), other) == why


def test_of_several_differences_the_fewest_are_told(build: Build) -> None:
    far = build.trial("robust", 0, {10: 60.0}, recipe="other")
    near = build.trial("robust", 1, {10: 60.0})
    assert reasons(build, build.trial("natural", 0, LAST), far, near) == [
        "the trials of the two arms differ in epochs",
        "the trials of the two arms differ in epochs and recipe",
        "the trials of the two arms differ in epochs",
    ]


def test_an_epoch_that_one_arm_did_not_evaluate(build: Build) -> None:
    trials = build.trial("natural", 0, {1: 9.0, 30: 50.0}), build.trial("robust", 0, {1: 9.0, 11: 40.0, 30: 60.0})
    assert reasons(build, *trials, epoch="all") == ["", "the trials of the two arms differ in evaluated epochs", ""]


def test_the_table_of_deltas_says_it(build: Build) -> None:
    root = build.root([build.trial("natural", 0, {30: 50.0}), build.trial("robust", 0, {10: 60.0})])
    words = " ".join(formats.text(analysis.deltas(root), "table").split())
    assert "2 cells without a pair are left out; --format csv lists them" in words
    assert "2 cells have no pair, since the trials of the two arms differ in epochs" in words


def test_clauses(build: Build) -> None:
    data = frame(build.table([*build.arms([50.0], [60.0]), build.trial("robust", 0, 60.0, images=200)]))
    cells = delta_cells(data, [Comparison("robust", "natural")], Declared(()))
    assert without_pair(cells["no_pair"]) == [f"1 cell has no pair, since {NO_TRIALS}"]
    assert without_partner(2).startswith("in 2 cells, trials without a partner in the other arm")
