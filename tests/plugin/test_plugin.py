"""A kind of trial from another package, added only by a folder on the path of all processes."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.figures.drawing.axis import Axis
from analysis.figures.drawing.render import draw
from analysis.figures.networks import NETWORKS
from jobs.results.rows_digest import rows_digest
from jobs.results.schema import ROWS_KEY

INSTALLED = Path(__file__).parent / "installed"
"""What ``pip install`` would leave of the package ``deltasweep-darkness``."""
STUDY = """
name: dark
grid: {source: [fmnist_natural, fmnist_l2_eps1], dataset: [digits], blocks: [0]}
schedule:
  - {images: [60], epochs: 1, seeds: 2, evaluate_every: 1}
resources: {gpu: 0, cpu: 1}
darkness:
  finetuned: {images: [60], seeds: 2}
  test_images: 797
  levels: 2
  resources: {gpu: 0, cpu: 1}
"""
TRIALS, DARK, LEVELS = 8, 4, 2
DIGITS_TEST = 797
WRONG_REQUEST = 2


class Result(NamedTuple):
    """The outcome of a command."""

    code: int
    out: str
    message: str
    """Standard error."""


class Machine(NamedTuple):
    """A place to run commands, with or without packages on their path."""

    folder: Path

    def __call__(self, *arguments: str, packages: Path | None = INSTALLED) -> Result:
        path = [*([str(packages)] if packages else []), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path),
            "DELTASWEEP_HOME": str(self.folder / "home"),
            "RAY_TMPDIR": str(self.folder / "ray"),
            "CUDA_VISIBLE_DEVICES": "",
        }
        done = subprocess.run(
            [str(Path(sys.executable).parent / "deltasweep"), *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A folder with a short name, because it contains Ray's sockets, and a study in it."""
    folder = Path(tempfile.mkdtemp(prefix="ds-"))
    (folder / "ray").mkdir()
    (folder / "dark.yaml").write_text(STUDY)
    yield Machine(folder)
    shutil.rmtree(folder, ignore_errors=True)


def package(folder: Path, entry_point: str, **modules: str) -> Path:
    """Make an installed package with some modules that registers this entry point."""
    metadata = folder / "deltasweep_other-0.1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: deltasweep-other\nVersion: 0.1\n")
    (metadata / "entry_points.txt").write_text(f"[deltasweep.kinds]\n{entry_point}\n")
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    return folder


# --- before anything runs ---


def test_a_plan_has_its_trials(machine: Machine) -> None:
    plan = machine("plan", "dark.yaml", "--json")
    assert plan.code == 0, plan.message
    counts = json.loads(plan.out)
    assert (counts["trials"], counts["pending"]) == (TRIALS, TRIALS)
    assert counts["images_evaluated"] == DARK * (1 + LEVELS) * DIGITS_TEST


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        (("test_images: 797", "test_images: 5000"), "line 9: darkness.test_images: ", "got 5000"),
        (("levels: 2", "levls: 2"), "line 10: darkness.levls: unknown key (did you mean 'levels'?)", "test_images"),
        (("images: [60], seeds: 2}\n  test", "images: [70], seeds: 2}\n  test"), "line 8: darkness.finetuned", "70"),
    ],
)
def test_a_mistake_in_its_section_has_its_line(
    machine: Machine, change: tuple[str, str], place: str, words: str
) -> None:
    (machine.folder / "wrong.yaml").write_text(STUDY.replace(*change))
    result = machine("plan", "wrong.yaml")
    assert result.code == WRONG_REQUEST
    assert "wrong.yaml: 1 mistake\n" in result.message
    assert place in result.message
    assert words in result.message


def test_its_version_is_one_that_numbers_depend_on() -> None:
    """The machines of a launch must have the same version, and results record it."""
    code = "from orchestrator.failures.versions import versions; print(versions()['deltasweep-darkness'])"
    path = os.pathsep.join([str(INSTALLED), os.environ.get("PYTHONPATH", "")])
    told = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert told.stdout == "1.2\n"


def test_its_figure_has_axes_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns, labels, units and scales that no figure of DeltaSweep has."""
    monkeypatch.syspath_prepend(str(INSTALLED))
    report = import_module("deltasweep_darkness.report")
    levels = [{"level": level, "brightness": 1 / level, "accuracy": 100.0 / level} for level in (1, 2)]
    network = {"source": "a", "finetuned": None, "test_images": 5, **dict.fromkeys(NETWORKS), "dataset": "digits"}
    figure = report.darkness_figure(pd.DataFrame([{**network, **level} for level in levels]))
    assert {*zip(figure.table()["quantity"], figure.table()["against"], strict=True)} == {("accuracy", "brightness")}
    (panel,) = figure.panels
    inverse = Axis(column="1/brightness", label="inverse brightness", unit="1", scale="log2")
    points = panel.points.assign(x=[1.0, 2.0])
    logarithmic = replace(figure, panels=(replace(panel, against=inverse, ticks=(), points=points),))
    (axes,) = (ax for ax in draw(figure).axes if ax.axison)
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("accuracy in the dark (%)", "brightness (share), n = 1")
    (axes,) = (ax for ax in draw(logarithmic).axes if ax.axison)
    assert (axes.get_xscale(), axes.get_xlabel()) == ("log", "inverse brightness (1), n = 1")


# --- packages that cannot be used ---

NAMED = """
from dataclasses import replace
from jobs.kinds.shape_bias.kind import KIND as SHAPE_BIAS
from jobs.kinds.shape_bias.spec import ShapeBiasSpec

class Spec(ShapeBiasSpec):
    kind = "{name}"

KIND = replace(SHAPE_BIAS, spec=Spec, rows=SHAPE_BIAS.rows._replace(view="{view}"), section_since={since!r})
"""


@pytest.mark.parametrize(
    ("entry_point", "module", "code", "words"),
    [
        ("x = nowhere.kind:KIND", "", "unusable-package", "No module named 'nowhere'"),
        ("x = other:KIND", "def", "unusable-package", "SyntaxError"),
        ("x = json:dumps", "", "unusable-package", "got function"),
        ("x = other:KIND", NAMED.format(name="Top5", view="v", since="1.0"), "unusable-package", "got 'Top5'"),
        ("x = other:KIND", NAMED.format(name="grid", view="v", since="1.0"), "unusable-package", "got 'grid'"),
        ("x = other:KIND", NAMED.format(name="mine", view="trials", since="1.0"), "unusable-package", "got 'trials'"),
        ("x = other:KIND", NAMED.format(name="mine", view="v", since=None), "unusable-package", "section_since"),
        ("x = jobs.kinds.attack.kind:KIND", "", "repeated", "two with the name 'attack', from DeltaSweep itself"),
        ("x = other:KIND", NAMED.format(name="mine", view="attacks", since="1.0"), "repeated", "the view 'attacks'"),
    ],
)
def test_a_package_that_cannot_be_used_is_one_clear_error(
    machine: Machine, tmp_path: Path, entry_point: str, module: str, code: str, words: str
) -> None:
    result = machine("plan", "demo", "--json", packages=package(tmp_path, entry_point, other=module))
    assert result.code == WRONG_REQUEST
    error = json.loads(result.message)["error"]
    assert error["code"] == code
    assert words in error["message"]
    assert (result.out, result.message.count("\n")) == ("", 1), "more than one message"
    if "grid" not in words:
        assert f"the package deltasweep-other 0.1 (entry point {entry_point})" in error["message"]


def test_what_needs_no_kind_goes_on_without(machine: Machine, tmp_path: Path) -> None:
    broken = package(tmp_path, "x = nowhere.kind:KIND")
    assert machine("--help", packages=broken).code == 0
    assert machine("launch", "--help", packages=broken).code == 0


# --- from its study file to its report ---


@pytest.fixture(scope="module")
def ran(machine: Machine) -> Machine:
    """A root in which the study was launched, left after a few trials, and finished."""
    launched = machine("launch", "dark.yaml", "--results", "root", "--max-trials", "5")
    assert launched.code == 0, launched.message
    assert f"5 of {TRIALS} trials are done" in launched.out
    left = json.loads(machine("status", "--results", "root", "--json").out)
    assert (left["planned"], left["done"], left["pending"]) == (TRIALS, 5, 3)
    resumed = machine("resume", "--results", "root")
    assert resumed.code == 0, resumed.message
    assert f"{TRIALS} of {TRIALS} trials are done" in resumed.out
    return machine


@pytest.mark.sample
@pytest.mark.slow(100)
class TestInstalled:
    def test_its_rows_are_a_view_of_queries(self, ran: Machine) -> None:
        sql = (
            "SELECT level, brightness, accuracy, test_accuracy, darknesses.packages FROM darknesses "
            "JOIN trials ON finetuned = trials.trial_id ORDER BY level"
        )
        rows = json.loads(ran("query", sql, "--results", "root", "--format", "json").out)
        assert [(row["level"], row["brightness"]) for row in rows] == [(1, 1.0)] * DARK + [(2, 0.5)] * DARK
        assert all(row["accuracy"] == row["test_accuracy"] for row in rows[:DARK]), "images as they are"
        assert any(row["accuracy"] != row["test_accuracy"] for row in rows[DARK:])
        assert json.loads(rows[0]["packages"])["deltasweep-darkness"] == "1.2"

    def test_nothing_is_found_wrong(self, ran: Machine) -> None:
        found = ran("verify", "--results", "root")
        assert (found.code, found.out) == (0, "0 problems, 0 notes.\n")

    def test_what_cannot_be_is_found(self, ran: Machine) -> None:
        """Found by the kind's own rule."""
        root = ran.folder / "wrong"
        shutil.copytree(ran.folder / "root", root)
        file = next((root / "trials" / "darkness").rglob("*.parquet"))
        rows = pq.read_table(file)
        place = rows.column_names.index("brightness")
        dim = rows.set_column(place, rows.schema.field(place), pa.array([1.0, 0.7]))
        dim = dim.replace_schema_metadata({**rows.schema.metadata, ROWS_KEY.encode(): rows_digest(dim)})
        pq.write_table(dim, file)
        found = ran("verify", "--results", "wrong")
        assert found.code == 1
        assert f"impossible: {file}" in found.out
        assert "brightness: at level 2 of 2 it is 0.5; it says 0.7" in found.out

    def test_its_results_are_compacted(self, ran: Machine) -> None:
        made = ran("compact", "--results", "root")
        assert (made.code, f"The index covers {DARK} trials of kind darkness ({DARK * LEVELS} rows)" in made.out) == (
            0,
            True,
        )

    def test_the_report_has_its_section(self, ran: Machine) -> None:
        made = ran("report", "--results", "root", "--out", "with")
        assert made.code == 0, made.message
        page = (ran.folder / "with" / "index.html").read_text()
        assert "Diagnostics: accuracy on dark images" in page
        assert {"darkness.csv", "darkness.png"} <= {path.name for path in (ran.folder / "with").iterdir()}
        figure = pd.read_csv(ran.folder / "with" / "darkness.csv")
        assert {*zip(figure["quantity"], figure["against"], strict=True)} == {("accuracy", "brightness")}
        drawn = (ran.folder / "with" / "darkness.svg").read_text()
        assert "brightness (share), n = " in drawn, "a plug-in's figure has axes of its own"
        assert "accuracy in the dark (%)" in drawn
        assert "Not shown" not in page


@pytest.mark.sample
@pytest.mark.slow(100)
class TestNotInstalled:
    """A root with results of the kind, without the package: they are reported by kind, and all else works."""

    def test_a_query_says_what_has_no_view(self, ran: Machine) -> None:
        other = ran("query", "SELECT count(*) AS n FROM trials", "--results", "root", "--format", "csv", packages=None)
        assert (other.code, other.out.split()) == (0, ["n", "4"])
        asked = ran("query", "SELECT * FROM darknesses", "--results", "root", packages=None)
        assert asked.code == WRONG_REQUEST
        assert f"darkness ({DARK} results)" in asked.message
        assert "install the package" in asked.message

    def test_nothing_is_called_wrong(self, ran: Machine) -> None:
        found = ran("verify", "--results", "root", packages=None)
        assert found.code == 0, found.out
        told = [line for line in found.out.splitlines() if line.startswith("unknown-kind: ")]
        assert len(told) == 2
        assert f"{DARK} results of the kind 'darkness'" in told[1]
        assert "(darkness)" in told[0]
        assert found.out.splitlines()[-1] == "0 problems, 2 notes."

    def test_they_stay_out_of_an_index_and_in_it(self, ran: Machine) -> None:
        assert ran("compact", "--results", "root").code == 0
        index = ran.folder / "root" / "compact" / "CURRENT.json"
        before = json.loads(index.read_text())["kinds"]["darkness"]
        made = ran("compact", "--results", "root", packages=None)
        assert made.code == 0, made.message
        assert f"{DARK} results of kind 'darkness'" in made.out
        assert json.loads(index.read_text())["kinds"]["darkness"] == before

    @pytest.mark.parametrize("verb", ["status", "resume"])
    def test_the_study_cannot_be_gone_on_with(self, ran: Machine, verb: str) -> None:
        told = ran(verb, "--results", "root", packages=None)
        assert told.code == WRONG_REQUEST
        assert "darkness: unknown key" in told.message
        assert "install the package" in told.message

    def test_deltas_are_what_they_are(self, ran: Machine) -> None:
        asked = ("deltas", "--results", "root", "--format", "json")
        assert json.loads(ran(*asked, packages=None).out) == json.loads(ran(*asked).out) != []

    def test_the_report_names_them(self, ran: Machine) -> None:
        made = ran("report", "--results", "root", "--out", "without", packages=None)
        assert made.code == 0, made.message
        page = (ran.folder / "without" / "index.html").read_text()
        assert f"darkness ({DARK})" in page
        assert "4 of 4 trials finished" in page

    def test_they_are_not_left_behind_by_a_merge(self, ran: Machine) -> None:
        joined = ran("merge", "root", "--results", "joined", packages=None)
        assert joined.code == WRONG_REQUEST
        assert "install the package" in joined.message
        assert not (ran.folder / "joined").exists()
