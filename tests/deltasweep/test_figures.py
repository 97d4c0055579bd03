"""Figures from Python: what they show, and how a notebook and a file get them."""

import json
import re
from pathlib import Path

import pytest

import deltasweep as ds
from jobs.errors import Code, InvalidRequest
from jobs.results import LocalStore, record_study
from jobs.specs.canonical import canonical_json
from jobs.specs.recipes import Recipe
from jobs.specs.trial import recipe_digest
from tests.analysis.support import Build
from tests.support import refused


def test_the_figure_has_the_deltas(finished: Path) -> None:
    figure, deltas = ds.figure(finished), ds.deltas(finished)
    numbers = figure.table.to_pandas()
    assert numbers["x"].tolist() == deltas["images"].to_pylist() == [20, 40]
    assert numbers["mean"].tolist() == pytest.approx(deltas["mean_delta"].to_pylist(), abs=1e-12)
    assert numbers["low"].tolist() == pytest.approx(deltas["ci_low"].to_pylist(), abs=1e-12)
    assert set(numbers["panel"]) == {"fmnist_l2_eps1 minus fmnist_natural"}
    assert figure.title == "Delta by number of training images"
    assert "0 blocks fine-tuned" in figure.caption


def test_a_panel_for_each_comparison_and_depth(tmp_path: Path) -> None:
    build = Build(tmp_path)
    natural, better = [50, 51, 52], [53, 55, 54]
    trials = [
        build.trial(source, seed, accuracy, blocks=blocks)
        for source, accuracies in (("natural", natural), ("robust", better), ("other", better))
        for blocks in (1, 3)
        for seed, accuracy in enumerate(accuracies)
    ]
    root = build.root(trials)
    panels = ds.figure(root)._data.panels
    assert [(panel.title, panel.row) for panel in panels] == [
        (f"{source} minus natural", f"{depth} fine-tuned")
        for depth in ("1 block", "3 blocks")
        for source in ("other", "robust")
    ]
    assert len(ds.figure(root, source="other", blocks=3)._data.panels) == 1
    assert len(ds.figure(root, baseline="other")._data.panels) == 4


def test_the_figures_of_the_paper(finished: Path) -> None:
    assert ds.figure(finished, "2").title == "Accuracy and delta by number of training images"
    assert ds.figure(finished, 2).title == ds.figure(finished, "2").title
    with refused(Code.NO_ANSWER, "Figure 5", kind=InvalidRequest):
        ds.figure(finished, "5")
    with refused(Code.UNKNOWN_NAME, "deltas, 2, 3", "'7'", kind=InvalidRequest, key="name"):
        ds.figure(finished, "7")


def test_the_figures_of_the_paper_compare_what_a_study_declared(tmp_path: Path) -> None:
    build, sources = Build(tmp_path), {"natural": "none", "first": "l2", "second": "l2"}
    root = build.root(
        build.trial(source, seed, 50.0 + seed, constraint=constraint)
        for source, constraint in sources.items()
        for seed in range(2)
    )
    assert ds.figure(root, "2")._data.panels[1].title == "(b) first minus natural"
    contrast = {"source": "second", "baseline": "natural", "blocks": [3]}
    record_study(LocalStore(root), "mine", "d1", json.dumps({"name": "mine", "contrasts": [contrast]}))
    assert ds.figure(root, "2")._data.panels[1].title == "(b) second minus natural"


def test_how_it_is_shown_and_saved(finished: Path, tmp_path: Path) -> None:
    figure = ds.figure(finished)
    assert repr(figure) == "<Figure deltas: Delta by number of training images>"
    assert "<svg" in figure._repr_svg_()
    png, about = figure._repr_png_()
    assert (png[:4], about) == (b"\x89PNG", {"width": 528})
    for ending, begin in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        assert figure.save(tmp_path / f"deltas.{ending}").read_bytes().startswith(begin)
    assert figure.matplotlib.axes[0].get_ylabel() == "delta (percentage points)"
    with refused(Code.WRONG_PLACE, ".pdf", kind=InvalidRequest, file=tmp_path / "deltas.jpg"):
        figure.save(tmp_path / "deltas.jpg")
    with refused(Code.WRONG_PLACE, "No such file", kind=InvalidRequest):
        figure.save(tmp_path / "nowhere" / "deltas.png")


def test_names_of_strangers_are_text(tmp_path: Path) -> None:
    build = Build(tmp_path)
    evil = "<script>alert(1)</script>"
    svg = ds.figure(build.root(build.arms([50, 51, 52], [53, 55, 54], dataset=evil)))._repr_svg_()
    assert "<script" not in svg
    assert re.search("&lt;script", svg)


def test_results_without_a_pair(tmp_path: Path) -> None:
    build = Build(tmp_path)
    root = build.root([build.trial("natural", 0, 50.0), build.trial("robust", 1, 51.0)])
    with refused(Code.NO_ANSWER, "natural, robust", kind=InvalidRequest, key="source"):
        ds.figure(root)


@pytest.mark.parametrize("name", ["deltas", "2"])
def test_legends_describe_recipes(tmp_path: Path, name: str) -> None:
    build = Build(tmp_path)
    trials = [
        rows
        for made in (Recipe(), Recipe(learning_rate=0.05))
        for rows in build.arms(
            [50, 51, 52],
            [53, 55, 54],
            recipe=recipe_digest(made),
            recipe_json=canonical_json(made.model_dump(mode="json")),
        )
    ]
    figure = ds.figure(build.root(trials), name)
    words = {f"own trials, learning_rate {rate}" for rate in (0.1, 0.05)}
    assert set(figure.table.to_pandas()["variant"]) == words
    said = {text.get_text() for legend in figure.matplotlib.legends for text in legend.get_texts()}
    assert all(any(one in label for label in said) for one in words)
    assert len(figure.table) == (2 if name == "deltas" else 6), "paired within each recipe"


def test_comparisons_without_a_pair_are_named(tmp_path: Path) -> None:
    build = Build(tmp_path)
    root = build.root([*build.arms([50, 51, 52], [53, 55, 54]), build.trial("other", 9, 50.0)])
    assert "No trials pair for other minus natural." in ds.figure(root).caption
