"""One order of the sources of a root decides their looks: in figures, curves, the live page and notebooks."""

import json
import re
from pathlib import Path

import analysis
import deltasweep as ds
from analysis.figures.drawing.style import COLOURS, MARKERS, Look
from analysis.page.results import read
from analysis.paired.names import source_names, sources_in
from jobs.results import LocalStore, commit, record_study
from tests.analysis.examined import visualized
from tests.analysis.support import Build


def root_of(build: Build) -> Path:
    """Return a root with two fine-tuned sources, one that was only visualized, and one that is only planned."""
    root = build.root(build.arms([50.0, 51.0], [55.0, 57.0]))
    commit(LocalStore(root), "visualize", visualized("a-visualized-one"))
    grid = {"source": ["b-planned-one", "natural"], "dataset": ["digits"], "blocks": [3]}
    rows = [{"images": [100], "epochs": 1, "seeds": 2, "evaluate_every": 1}]
    study = {"name": "mine", "grid": grid, "schedule": rows, "recipe": {}}
    record_study(LocalStore(root), "mine", "d1", json.dumps(study))
    return root


def test_all_sources_of_a_root_have_a_place(build: Build) -> None:
    assert sources_in(LocalStore(root_of(build))) == ["a-visualized-one", "b-planned-one", "natural", "robust"]
    assert source_names(["b", "a", "b"], []) == ["a", "b"]


def test_a_source_looks_the_same_in_curves_figures_and_notebooks(build: Build) -> None:
    root = root_of(build)
    wanted = Look(COLOURS[3], MARKERS[3])
    results = read(LocalStore(root))
    assert results.looks["source"]["robust"] == wanted
    page = analysis.report(root)
    forest = (page.parent / "forest.svg").read_text()
    assert set(re.findall(r'class="mark s(\d)"', forest)) == {"3"}
    for figure in (ds.figure(root), ds.figure(root, dataset="digits", source="robust")):
        assert figure._data.names["source"].index("robust") == 3
