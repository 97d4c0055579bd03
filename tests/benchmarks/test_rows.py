"""Rows report whether a target is reached, and the spread of the ratios."""

import json
from pathlib import Path

import pytest

from benchmarks import rows
from benchmarks.rows import at_least, at_most, beside, report
from jobs.system.processor import cpu_name, read_cpuinfo


def test_a_row_holds_by_its_median() -> None:
    ratios = [1.0, 1.1, 1.3]
    assert at_most("a", ratios, 1.1).holds is True
    assert at_most("a", ratios, 1.0).holds is False
    assert at_least("a", ratios, 1.1).holds is True
    assert at_least("a", ratios, 1.2).holds is False
    assert beside("a", ratios)[1:4] == pytest.approx((1.1, 1.05, 1.2))
    assert beside("a", ratios)[4:] == (None, None)


def test_quartiles_are_within_the_ratios() -> None:
    """Also those of two, which many rows have."""
    assert beside("a", [1.0, 2.0])[1:4] == pytest.approx((1.5, 1.25, 1.75))
    assert beside("a", [2.0, 1.0, 1.0, 2.0])[1:4] == pytest.approx((1.5, 1.0, 2.0))


def test_one_ratio_has_no_spread() -> None:
    assert at_most("a", [1.5], 1.2)[1:] == (1.5, 1.5, 1.5, 1.2, False)


def test_rows_of_the_same_name_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "results" / "own.json"
    monkeypatch.setenv(rows.RESULTS, str(file))
    report([beside("a", [1.0]), beside("b", [2.0])])
    report([at_most("a", [3.0], 4.0)])
    kept = json.loads(file.read_text())
    assert [(row["name"], row["ratio"], row["holds"]) for row in kept["rows"]] == [("a", 3.0, True), ("b", 2.0, None)]
    assert kept["processor"] == cpu_name(read_cpuinfo())
    assert all(row["date"] and row["load"] >= 0 for row in kept["rows"])


def test_each_kind_of_processor_has_its_own_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(rows.RESULTS, raising=False)
    names = ("Intel Xeon (GenuineIntel family 6 model 167)", "AMD EPYC (AuthenticAMD family 25 model 1)")
    files = []
    for name in names:
        monkeypatch.setattr(rows, "cpu_name", lambda told, name=name: name)
        files.append(rows.results_file().name)
    assert files == ["intel-xeon-genuineintel-family-6-model-167.json", "amd-epyc-authenticamd-family-25-model-1.json"]
