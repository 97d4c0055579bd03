"""The notebooks of examples/ run from their first cell to their last, and are stored without outputs."""

import json
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import analysis
from tests.jupyter import keep_files_in

EXAMPLES = Path(__file__).parents[2] / "examples"
CELL_SECONDS = 400


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the examples. Jupyter, IPython and matplotlib keep their files beside it."""
    keep_files_in(tmp_path, monkeypatch)
    copied: Path = shutil.copytree(EXAMPLES, tmp_path / "examples")
    return copied


def run(path: Path) -> list[Any]:
    """Execute a notebook in its folder and return the code cells, with their outputs. A cell that fails raises."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # nbformat gives it no types
    NotebookClient(
        notebook, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text(cell: Any) -> str:
    """What a cell printed, and its result as text."""
    printed = [output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout"]
    results = [output.data.get("text/plain", "") for output in cell.outputs if "data" in output]
    return "".join([*printed, *results])


def html(cell: Any) -> str:
    """What a notebook shows of a cell's result."""
    return "".join(output.data.get("text/html", "") for output in cell.outputs if "data" in output)


def pictures(cells: list[Any]) -> int:
    return sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    nbformat.validate(notebook)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"] is not None] == []


def test_each_notebook_is_executed_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.ipynb")} == {"analysis", "sweep"}


def test_analysis(folder: Path, tmp_path: Path) -> None:
    cells = run(folder / "analysis.ipynb")
    assert "Imported(rows=160, trials=40, new=40, already_there=0, conflicts=0)" in text(cells[0])
    analysis.import_trials(EXAMPLES / "first-sweep.csv", tmp_path / "root")
    deltas = analysis.deltas(tmp_path / "root", baseline="fmnist_natural").to_pandas()
    assert list(deltas["n_pairs"]) == [5] * 4
    assert len(cells[2].outputs) == 1, "the table is the result of the cell, as text and as HTML"
    for shown in (text(cells[2]), html(cells[2])):
        for value in deltas["mean_delta"]:
            assert f"{value:+.2f}" in shown
    assert "percent</span>" in html(cells[1])
    assert pictures(cells) == 2


@pytest.mark.slow(60)
def test_sweep(folder: Path) -> None:
    study, planned, launched, status, curve, deltas, again = run(folder / "sweep.ipynb")
    assert "mini: 12 trials" in html(study)
    assert "12 trials: 0 done, 12 pending" in html(planned)
    assert "12 of 12 trials are done" in html(launched)
    assert "12 trials: 12 done, 0 running, 0 pending" in html(status)
    assert "20 trials: 12 done, 8 pending" in html(again)
    table = analysis.deltas(folder / "mini-results").to_pandas()
    assert list(table["n_pairs"]) == [3, 3]
    for value in table["mean_delta"]:
        assert f"{value:+.2f}" in html(deltas)
    assert pictures([curve]) == 1
