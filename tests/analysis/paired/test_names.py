"""One order of the sources of a root decides their looks: in figures, curves, the live page and notebooks."""

import json
import re
from pathlib import Path

import analysis
import deltasweep as ds
from analysis.figures.drawing.style import COLOURS, MARKERS, Look
from analysis.page.results import read
from analysis.paired.names import sources_in
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
    store = LocalStore(root_of(build))
    names = ["a-visualized-one", "b-planned-one", "natural", "robust"]
    assert sources_in(store) == names
    assert sources_in(store, {"finetune": ["natural", "robust"]}) == names
    assert sources_in(store, {"finetune": ["read-by-the-caller", None]}) == [*names[:3], "read-by-the-caller"]


def test_what_cannot_be_read_names_nothing_and_fails_no_figure(build: Build) -> None:
    """As deltas of one study do not need another study, or results of another kind."""
    root = root_of(build)
    grid = {"source": ["natural", "robust"], "dataset": ["digits"], "blocks": [3]}
    rows = [{"images": [100], "epochs": last, "seeds": 2, "evaluate_every": 1} for last in (1,)]
    study = {"name": "one", "grid": grid, "schedule": rows, "recipe": {}}
    record_study(LocalStore(root), "one", "d1", json.dumps(study))
    for seed, last in ((0, 2), (1, 2)):  # several lengths, so that plans matter
        for source in ("natural", "robust"):
            commit(LocalStore(root), "finetune", build.trial(source, seed, {last: 50.0 + seed}))
    shown = ds.figure(root, "2")._data.names
    deltas = analysis.deltas(root, study="one")
    record_study(LocalStore(root), "later", "d1", json.dumps({"name": "later", "nothing": "of this version"}))
    (root / "launches").mkdir(exist_ok=True)
    (root / "launches" / "torn.json").write_text("{")
    torn = sorted((root / "trials" / "visualize").rglob("*.parquet"))[0]
    (torn.parent / "visualize-torn-0123456789abcdef.parquet").write_bytes(b"PAR1")
    (torn.parent / "strange.txt").write_text("nothing")
    (root / "studies" / "broken").mkdir()
    (root / "studies" / "broken" / "d1.yaml").write_text("[")
    assert sources_in(LocalStore(root)) == ["a-visualized-one", "b-planned-one", "natural", "robust"]
    assert ds.figure(root, "2")._data.names == shown
    for path in ("launches/torn.json", "studies/broken/d1.yaml"):  # what deltas have always read
        (root / path).unlink()
    assert analysis.deltas(root, study="one").equals(deltas)


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
