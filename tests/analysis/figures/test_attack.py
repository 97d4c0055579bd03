"""Accuracy under attack: the figure's numbers, its place on the page, and the view."""

import math
from typing import Any

import pandas as pd
import pytest
from scipy import stats

import analysis
from analysis.figures.attack import COLUMNS, attack_figure
from analysis.figures.drawing.model import Figure
from jobs.errors import Code, InvalidRequest
from jobs.results import LocalStore, commit, schema
from tests.analysis.support import Build, Row, Rows
from tests.support import present, refused

_NOTHING = {"string": "x", "int64": 1, "double": 1.0}


def attacked(
    source: str = "natural",
    seed: int | None = None,
    constraint: str = "l2",
    epsilon: float = 0.5,
    accuracy: float = 50.0,
    **columns: object,
) -> Row:
    """Return one row of the kind attack; ``seed`` is the fine-tuned trial's, None for the source itself."""
    fields = {field.name: None if field.nullable else _NOTHING[str(field.type)] for field in schema("attack")}
    clean = constraint == "none"
    return {
        **fields,
        "trial_id": f"attack-{source}-{seed}-{constraint}-{epsilon:.3g}-{round(accuracy):016x}",
        "source": source,
        "finetuned": None if seed is None else f"finetune-{source}-{seed}",
        "blocks": None if seed is None else 3,
        "images": None if seed is None else 400,
        "finetuned_seed": seed,
        "dataset": "fmnist" if seed is None else "digits",
        "constraint": constraint,
        "epsilon": 0.0 if clean else epsilon,
        "steps": 0 if clean else 10,
        "step_scale": 2.5,
        "start": "zero" if clean else "random",
        "restarts": 1 if clean else 2,
        "test_images": 100,
        "test_images_used": 100,
        "accuracy": accuracy,
        "robust_accuracy": accuracy,
        **columns,
    }


_SEEDS = ((1, 80.0, 60.0), (2, 84.0, 50.0), (3, 82.0, 55.0), (4, 82.0, 52.0), (5, 82.0, 58.0))


def rows() -> Rows:
    made = [attacked(constraint="none", accuracy=90.0), attacked(accuracy=40.0)]
    made += [attacked(constraint="linf", epsilon=8 / 255, accuracy=10.0), attacked("l2", accuracy=70.0)]
    for seed, clean, robust in _SEEDS:
        made += [attacked(seed=seed, constraint="none", accuracy=clean), attacked(seed=seed, accuracy=robust)]
    return made


def drawn(made: Rows) -> Figure | None:
    return attack_figure(pd.DataFrame(made)[list(COLUMNS)])


def test_networks_that_were_tuned_in_two_ways_are_not_averaged() -> None:
    ways: tuple[dict[str, Any], ...] = (
        {"finetuned_recipe": "a" * 12, "finetuned_epochs": 30},
        {"finetuned_recipe": "b" * 12, "finetuned_epochs": 30},
    )
    made = [attacked(seed=1, accuracy=accuracy, **way) for accuracy, way in zip((90.0, 10.0), ways, strict=True)]
    panels = present(drawn(made)).panels
    assert [panel.points["mean"].tolist() for panel in panels] == [[90.0], [10.0]]
    assert [panel.title for panel in panels] == [
        f"digits, 3 blocks, 400 images, recipe {letter * 12}: L2" for letter in "ab"
    ]


def test_a_curve_begins_with_clean_images_and_has_a_point_a_radius() -> None:
    figure = present(drawn(rows()))
    panels = {panel.title: panel.points.to_dict("records") for panel in figure.panels}
    assert list(panels) == [
        "digits, 3 blocks, 400 images: L2",
        "fmnist, sources: L2",
        "fmnist, sources: Linf in 255ths",
    ]
    points = {(p["series"], p["x"]): p for p in panels["fmnist, sources: L2"]}
    assert {key: p["mean"] for key, p in points.items()} == {
        ("natural", 0.0): 90.0,
        ("natural", 0.5): 40.0,
        ("l2", 0.5): 70.0,  # never evaluated on clean images
    }
    assert all(math.isnan(p["low"]) and p["n"] == 1 for p in points.values()), "one network: no interval"
    assert [(p["x"], p["mean"]) for p in panels["fmnist, sources: Linf in 255ths"]] == [(0, 90), (8, 10)]


def test_intervals_are_over_the_fine_tuned_trials() -> None:
    """60, 50, 55, 52, 58: mean 55, variance (25 + 25 + 0 + 9 + 9) / 4 = 17, so t times the root of 17 / 5."""
    points = {p["x"]: p for p in present(drawn(rows())).panels[0].points.to_dict("records")}
    half = stats.t.ppf(0.975, 4) * math.sqrt(17 / 5)
    assert (points[0.5]["mean"], points[0.5]["n"]) == (55.0, 5)
    assert points[0.5]["low"] == pytest.approx(55 - half)
    assert points[0.5]["high"] == pytest.approx(55 + half)
    assert points[0.0]["mean"] == 82.0
    assert points[0.5]["low_simultaneous"] < points[0.5]["low"], "two points of a curve at once"
    four = present(drawn([row for row in rows() if row["finetuned_seed"] != 5])).panels[0].points
    assert four[["low", "high", "low_simultaneous", "high_simultaneous"]].isna().all(axis=None), "wide and dense"


def test_other_attacks_are_other_curves_of_their_own() -> None:
    weaker = attacked(accuracy=65.0, steps=3, start="zero", restarts=1, trial_id="attack-x-0123456789abcdef")
    figure = present(drawn([*rows(), weaker]))
    panel = next(panel for panel in figure.panels if panel.title == "fmnist, sources: L2")
    natural = panel.points[panel.points["series"] == "natural"]
    assert sorted(natural["variant"].unique()) == [
        "PGD(10), random start, step size 2.5 epsilon / 10, restarts: 2, 100 images",
        "PGD(3), zero start, step size 2.5 epsilon / 3, restarts: 1, 100 images",
    ]
    assert len(natural[natural["x"] == 0]) == 2, "both begin with the same clean images"


def test_bands_of_frequencies_are_panels_of_their_own() -> None:
    clean = attacked(constraint="none", accuracy=90.0)
    made = [attacked(constraint=f"fourier:{band}", accuracy=a) for band, a in (("0-0.25", 30.0), ("0.25-1", 80.0))]
    panels = present(drawn([clean, *made])).panels
    assert [panel.title for panel in panels] == [
        "fmnist, sources: L2, frequencies 0-0.25",
        "fmnist, sources: L2, frequencies 0.25-1",
    ]
    assert [panel.points["mean"].tolist() for panel in panels] == [[90.0, 30.0], [90.0, 80.0]]


def test_no_attack_no_figure() -> None:
    assert attack_figure(pd.DataFrame(columns=list(COLUMNS))) is None
    assert drawn([attacked(constraint="none")]) is None


@pytest.mark.parametrize("with_trials", [True, False])
def test_the_page_shows_it_with_its_numbers(build: Build, with_trials: bool) -> None:
    root = build.root([build.trial("natural", 0, 50.0)] if with_trials else [])
    for row in rows():
        commit(LocalStore(root), "attack", [row])
    page = analysis.report(root)
    text = page.read_text()
    assert "Diagnostics: accuracy under attack" in text
    assert '<figure data-name="attacks">' in text
    assert "<td>fmnist, sources: L2</td>" in text
    assert {f"attacks.{form}" for form in ("png", "svg", "pdf", "csv")} <= {path.name for path in page.parent.iterdir()}
    assert "Diagnostics: accuracy" not in analysis.report(build.root([], "empty")).read_text()


def test_the_view(build: Build) -> None:
    root = build.root([])
    for row in rows():
        commit(LocalStore(root), "attack", [row])
    found = analysis.query(root, "SELECT max(robust_accuracy) AS best FROM attacks WHERE epsilon > 0")
    assert found["best"].to_pylist() == [70.0]
    with refused(Code.WRONG_QUERY, "evaluations, trials, failures, pretrain, attacks", kind=InvalidRequest, key="SQL"):
        analysis.query(root, "SELECT * FROM attack")


def test_attacks_are_named_in_all_panels_of_a_figure_or_in_none() -> None:
    weaker = attacked(accuracy=65.0, steps=3, start="zero", restarts=1, trial_id="attack-x-0123456789abcdef")
    found = present(drawn([*rows(), weaker]))
    assert all("PGD(" in name for panel in found.panels for name in panel.points["variant"])
    assert {name for panel in present(drawn(rows())).panels for name in panel.points["variant"]} == {""}


def test_attacks_of_two_seeds_are_two_curves() -> None:
    made = [attacked(seed=None, accuracy=40.0), attacked(seed=None, accuracy=41.0)]
    twice = [{**row, "seed": seed} for seed, row in enumerate(made)]
    (panel,) = present(drawn(twice)).panels
    assert [name.rpartition(", ")[2] for name in panel.points["variant"]] == ["seed 0", "seed 1"]
