"""Rows report whether a target is reached, and the spread of the ratios."""

import json
from pathlib import Path

import pytest

from benchmarks import rows
from benchmarks.rows import at_least, at_most, beside, report


def test_a_row_holds_by_its_median() -> None:
    ratios = [1.0, 1.1, 1.3]
    assert at_most("a", ratios, 1.1).holds is True
    assert at_most("a", ratios, 1.0).holds is False
    assert at_least("a", ratios, 1.1).holds is True
    assert at_least("a", ratios, 1.2).holds is False
    assert beside("a", ratios)[1:] == (1.1, 1.0, 1.3, None, None)


def test_one_ratio_has_no_spread() -> None:
    assert at_most("a", [1.5], 1.2)[1:] == (1.5, 1.5, 1.5, 1.2, False)


def test_rows_of_the_same_name_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "RESULTS", tmp_path / "results" / "latest.json")
    report([beside("a", [1.0]), beside("b", [2.0])])
    report([at_most("a", [3.0], 4.0)])
    found = json.loads((tmp_path / "results" / "latest.json").read_text())
    assert [(row["name"], row["ratio"], row["holds"]) for row in found] == [("a", 3.0, True), ("b", 2.0, None)]
