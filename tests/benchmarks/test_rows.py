"""Rows report whether a target is reached, and the spread of the ratios. Those of a part replace its older ones."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as program
from benchmarks import rows
from benchmarks.rows import at_least, at_most, beside, now, remove_older, report
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


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of results of this test."""
    path = tmp_path / "results" / "own.json"
    monkeypatch.setenv(rows.RESULTS, str(path))
    monkeypatch.delenv(rows.PART, raising=False)
    return path


def test_rows_of_the_same_name_are_replaced(file: Path) -> None:
    report([beside("a", [1.0]), beside("b", [2.0])])
    report([at_most("a", [3.0], 4.0)])
    kept = json.loads(file.read_text())
    assert [(row["name"], row["ratio"], row["holds"]) for row in kept["rows"]] == [("a", 3.0, True), ("b", 2.0, None)]
    assert kept["processor"] == cpu_name(read_cpuinfo())
    assert all(row["date"] and row["load"] >= 0 for row in kept["rows"])


def kept(file: Path) -> dict[str, Any]:
    """Return the kept rows: part and ratio by name."""
    return {row["name"]: (row.get("part"), row["ratio"]) for row in json.loads(file.read_text())["rows"]}


def test_a_row_that_is_measured_again_alone_stays_one_of_its_part(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(rows.PART, "one")
    report([beside("a", [1.0])])
    monkeypatch.delenv(rows.PART)
    report([beside("a", [2.0]), beside("b", [3.0])])
    assert kept(file) == {"a": ("one", 2.0), "b": (None, 3.0)}
    remove_older("one", "9999")
    assert kept(file) == {"b": (None, 3.0)}


def test_files_without_parts_are_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = {**beside("a", [1.0])._asdict(), "date": now()[:10], "load": 1.0, "torch": "2.14.1"}
    file.parent.mkdir()
    file.write_text(json.dumps({"processor": "one", "cores": 2, "rows": [old, {**old, "name": "b"}]}))
    monkeypatch.setenv(rows.PART, "one")
    report([beside("a", [2.0])])
    remove_older("one", now()[:10])
    assert kept(file) == {"a": ("one", 2.0), "b": (None, 1.0)}


def test_rows_that_cannot_be_written_leave_those_of_before(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report([beside("a", [1.0])])

    def fail(descriptor: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk is full"):
        report([beside("a", [2.0]), beside("b", [3.0])])
    assert kept(file) == {"a": (None, 1.0)}
    assert list(file.parent.iterdir()) == [file]


PART = """
import sys
from benchmarks.rows import beside, report

code, *found = sys.argv[1:]
for one in found:
    name, ratio = one.split("=")
    report([beside(name, [float(ratio)])])
sys.exit(int(code))
"""
"""A part that reports rows and ends with an exit status."""


def test_a_run_removes_what_its_parts_no_longer_measure_and_nothing_else(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not rows of parts that fail, nor those that were measured alone, with other options."""
    for part in ("part_one", "part_two"):
        (tmp_path / f"{part}.py").write_text(PART)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])]))
    monkeypatch.setattr(sys, "argv", ["benchmarks"])
    monkeypatch.setattr(program, "WHOLE", ["part_one 0 a=1 b=2", "part_two 0 c=3 d=4"])
    program.main()
    report([beside("alone", [5.0])])
    monkeypatch.setattr(program, "WHOLE", ["part_two 1 c=6", "part_one 0 a=7 e=8"])
    with pytest.raises(SystemExit, match="failed: part_two 1 c=6"):
        program.main()
    assert kept(file) == {
        "a": ("part_one", 7.0),
        "c": ("part_two", 6.0),
        "d": ("part_two", 4.0),
        "alone": (None, 5.0),
        "e": ("part_one", 8.0),
    }


def test_each_kind_of_processor_has_its_own_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(rows.RESULTS, raising=False)
    names = ("Intel Xeon (GenuineIntel family 6 model 167)", "AMD EPYC (AuthenticAMD family 25 model 1)")
    files = []
    for name in names:
        monkeypatch.setattr(rows, "cpu_name", lambda told, name=name: name)
        files.append(rows.results_file().name)
    assert files == ["intel-xeon-genuineintel-family-6-model-167.json", "amd-epyc-authenticamd-family-25-model-1.json"]
