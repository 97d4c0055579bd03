"""The notebooks of examples/ run from their first cell to their last, and are stored without outputs."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import analysis

EXAMPLES = Path(__file__).parents[2] / "examples"
CELL_SECONDS = 400


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the examples. The command is on the path, and Jupyter, IPython and matplotlib keep their files here."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(_made(tmp_path / "tmp")))
    for variable in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(variable, str(_made(tmp_path / variable.lower())))
    copied: Path = shutil.copytree(EXAMPLES, tmp_path / "examples")
    return copied


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


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
    shown = text(cells[2])
    for value in deltas["mean_delta"]:
        assert f"{value:.6f}" in shown
    assert pictures(cells) == 2


@pytest.mark.slow(60)
def test_sweep(folder: Path) -> None:
    cells = run(folder / "sweep.ipynb")
    planned, launched, status, again = (text(cell) for cell in cells if cell.source.startswith("%%bash"))
    assert "12 trials: 0 done, 12 pending" in planned
    assert "12 of 12 trials are done" in launched
    assert "12 trials: 12 done, 0 running, 0 pending" in status
    assert "20 trials: 12 done, 8 pending" in again
    table = analysis.deltas(folder / "mini-results").to_pandas()
    assert list(table["n_pairs"]) == [3, 3]
    for value in table["mean_delta"]:
        assert f"{value:.6f}" in text(cells[5])
    assert pictures(cells) == 1
