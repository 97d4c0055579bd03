"""One study in several recipes: what is separated, what is compared with what, and how it is reported."""

import json
import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from scipy import stats

import analysis
from analysis.evaluations.frames import frame
from analysis.evaluations.recipes import recipe_choices, recipe_words
from analysis.figures.confound import confound, confound_cells
from analysis.figures.drawing.render import draw
from analysis.output import formats
from analysis.paired.contrasts import Comparison
from analysis.paired.studies import planned_cells
from jobs.results import LocalStore, StudyRecord, commit, record_study, schema
from jobs.specs.canonical import canonical_json
from jobs.specs.recipes import Recipe
from jobs.specs.trial import recipe_digest
from jobs.study.model import Study
from tests.analysis.examined import NOTHING, asked, clean, visualized
from tests.analysis.reported import reported
from tests.analysis.support import Build, Rows
from tests.support import present

NATURAL = [50.0, 51.0, 52.0, 53.0, 54.0]
GAINS = {
    ("as-released", "batch"): [4.0, 5.0, 6.0, 5.0, 5.0],
    ("source", "batch"): [1.0, 3.0, 2.0, 2.0, 2.0],
    ("as-released", "source"): [4.0, 4.0, 6.0, 6.0, 5.0],
}
"""Deltas of the robust source, by seed.

The means are 5, 2 and 5; the changes from the first are -3, -2, -4, -3, -3 and 0, -1, 0, 1, 0.
"""

_TUNED: dict[str, Any] = {
    "finetuned": "finetune-x",
    "finetuned_dataset": "digits",
    "blocks": 3,
    "images": 400,
    "finetuned_seed": 1,
    "finetuned_epochs": 30,
}

AGAINST = [Comparison("robust", "natural")]


def recipe(normalization: str, mode: str, **choices: float) -> Recipe:
    return Recipe.model_validate({"normalization": normalization, "frozen_batchnorm": mode, **choices})


def arms(build: Build, gains: list[float], made: Recipe, **columns: object) -> list[Rows]:
    kept: dict[str, Any] = {
        "recipe": recipe_digest(made),
        "recipe_json": canonical_json(made.model_dump(mode="json")),
        **columns,
    }
    return build.arms(NATURAL, [one + gain for one, gain in zip(NATURAL, gains, strict=True)], **kept)


def trials(build: Build, **columns: object) -> list[Rows]:
    return [rows for way, gains in GAINS.items() for rows in arms(build, gains, recipe(*way), **columns)]


def given(build: Build, rows: list[Rows]) -> tuple[pd.DataFrame, list[Comparison], dict[str, Mapping[str, Any]]]:
    table = build.table(rows)
    return frame(table), AGAINST, recipe_choices(table)


def by_way(cells: pd.DataFrame) -> dict[tuple[str, str], dict[Hashable, Any]]:
    return {(row["normalization"], row["frozen_batchnorm"]): row for row in cells.to_dict("records")}


def test_each_way_is_a_cell_of_its_own_and_changes_are_paired_by_seed(build: Build) -> None:
    found = by_way(confound_cells(*given(build, trials(build))))
    assert {way: row["mean_delta"] for way, row in found.items()} == pytest.approx(
        dict.fromkeys(GAINS, 5) | {("source", "batch"): 2}
    )
    for way, row in found.items():
        interval = stats.ttest_1samp(GAINS[way], 0).confidence_interval(0.95)
        assert (row["n_pairs"], row["ci_low"], row["ci_high"]) == (5, *map(pytest.approx, interval))
        all_three = stats.ttest_1samp(GAINS[way], 0).confidence_interval(1 - 0.05 / 3)
        assert row["ci_low_simultaneous"] == pytest.approx(all_three.low)
    half = stats.t.ppf(0.975, 4) * math.sqrt(0.5 / 5)  # both changes have the variance 2 / 4
    matched, mode, released = (
        found[way] for way in (("source", "batch"), ("as-released", "source"), ("as-released", "batch"))
    )
    assert (matched["change"], matched["change_low"], matched["change_high"]) == pytest.approx(
        (-3, -3 - half, -3 + half)
    )
    assert (mode["change"], mode["change_high"]) == pytest.approx((0, half), abs=1e-12)
    assert math.isnan(released["change"])


def test_ways_come_in_the_order_of_the_words_and_beside_each_other(build: Build) -> None:
    made = present(confound(*given(build, trials(build))))
    (panel,) = made.figure.panels
    assert panel.title == "robust minus natural: digits, 3 blocks, 100 images"
    assert panel.ticks == ("batch", "source")
    points = panel.points[["series", "x", "mean", "n"]].to_dict("split")["data"]
    assert points == [
        ["normalization as-released", 0, pytest.approx(5), 5],
        ["normalization source", 0, pytest.approx(2), 5],
        ["normalization as-released", 1, pytest.approx(5), 5],
    ]
    assert [row[4:8] for row in made.table.rows] == [
        ("as-released", "batch", "5", "+5.00"),
        ("source", "batch", "5", "+2.00"),
        ("as-released", "source", "5", "+5.00"),
    ]
    assert [row[-2] for row in made.table.rows] == ["", "-3.00", "+0.00"]


def test_few_pairs_carry_a_warning(build: Build) -> None:
    """One way has four pairs, the others five."""
    short = arms(build, GAINS["source", "batch"], recipe("source", "batch"))
    rows = [one for one in trials(build) if one[0]["recipe"] != recipe_digest(recipe("source", "batch"))]
    few = [one for one in short if one[0]["seed"] < 4]
    made = present(confound(*given(build, [*rows, *few])))
    assert made.table.columns[-3:] == ("pairs of the change", "change", "95 % interval of the change")
    assert [row[-3] for row in made.table.rows] == ["", "4", "5"]
    assert made.table.notes[1:] == (
        "2 rows: paired t 95%.",
        "1 row: paired t 95%, few pairs: rests on normal differences.",
        "1 change of few pairs: the interval assumes normal differences.",
    )
    assert "fewer than 5 pairs" in made.figure.intervals
    (ax,) = draw(made.figure).axes
    bars = [one for one in ax.collections if isinstance(one, LineCollection)]
    styles: list[Any] = [one.get_linestyle() for one in bars]
    dotted = [len(one.get_paths()) for one, style in zip(bars, styles, strict=True) if style[0][1] is not None]
    assert (dotted, len(bars)) == ([1], 3)
    usual = max(line.get_markersize() for line in ax.lines if line.get_marker() != "None")
    of_few = [line for line in ax.lines if line.get_marker() != "None" and line.get_markersize() < usual]
    assert [np.asarray(line.get_ydata()).tolist() for line in of_few] == [[pytest.approx(2)]]
    whole = draw(present(confound(*given(build, trials(build)))).figure).axes[0]
    assert {line.get_markersize() for line in whole.lines if line.get_marker() != "None"} == {usual}


def test_other_choices_are_panels_of_their_own(build: Build) -> None:
    """Recipes that differ in other choices as well are not compared with these."""
    slow = [arms(build, GAINS[way], recipe(*way, learning_rate=0.05)) for way in list(GAINS)[:2]]
    alone = arms(build, [9.0] * 5, recipe("target", "batch", momentum=0.5))
    made = present(confound(*given(build, [*trials(build), *slow[0], *slow[1], *alone])))
    assert [panel.title.partition("images, ")[2] for panel in made.figure.panels] == [
        "learning_rate 0.05",
        "learning_rate 0.1",
    ]
    assert [len(panel.points) for panel in made.figure.panels] == [2, 3]
    assert "other choices" in made.table.columns


def test_one_way_alone_is_no_comparison(build: Build) -> None:
    rows = arms(build, GAINS["source", "batch"], recipe("source", "batch"))
    assert confound(*given(build, rows)) is None
    unknown = build.arms(NATURAL, NATURAL, recipe="imported", origin="imported", trial_id=None)
    assert confound(*given(build, [*rows, *unknown])) is None
    data, _, recipes = given(build, trials(build))
    assert confound(data, [], recipes) is None, "nothing to compare with"


def test_without_the_released_way_there_is_no_change(build: Build) -> None:
    rows = [one for way in list(GAINS)[1:] for one in arms(build, GAINS[way], recipe(*way))]
    cells = confound_cells(*given(build, rows))
    assert len(cells) == 2
    assert cells["change"].isna().all()


def test_recipes_in_words(build: Build) -> None:
    table = build.table([*trials(build), *build.arms([1.0], [2.0], recipe="e" * 12, recipe_json="[no recipe")])
    found = recipe_choices(table)
    assert set(found) == {recipe_digest(recipe(*way)) for way in GAINS}
    assert recipe_words(found)[recipe_digest(recipe("source", "batch"))] == (
        "frozen_batchnorm batch, normalization source"
    )
    assert recipe_words(dict(list(found.items())[:1])) == {}


def test_a_choice_that_came_later_has_a_word_where_it_is_left_out(build: Build) -> None:
    """Results omit the choice at its default, as do results of older versions."""
    ways = [Recipe(), Recipe(crop="whole-image")]
    rows = [
        one
        for way in ways
        for one in build.arms(
            [1.0], [2.0], recipe=recipe_digest(way), recipe_json=canonical_json(way.model_dump(mode="json"))
        )
    ]
    assert recipe_words(recipe_choices(build.table(rows))) == {
        recipe_digest(ways[0]): "crop centre-square",
        recipe_digest(ways[1]): "crop whole-image",
    }


def test_deltas_say_what_their_recipes_are(build: Build) -> None:
    root = build.root(trials(build))
    table = analysis.deltas(root)
    assert sorted(table["mean_delta"].to_pylist()) == pytest.approx([2, 5, 5]), "never averaged over recipes"
    said = formats.text(table, "table")
    for way in GAINS:
        assert f"recipe {recipe_digest(recipe(*way))}: frozen_batchnorm {way[1]}, normalization {way[0]}" in said
    one = build.root(arms(build, GAINS["source", "batch"], recipe("source", "batch")), "one")
    assert "frozen_batchnorm" not in formats.text(analysis.deltas(one), "table")


STUDY = {
    "name": "ways",
    "grid": {
        "source": ["natural", "robust"],
        "dataset": ["digits"],
        "blocks": [3],
        "recipe": {"normalization": ["as-released", "source"], "frozen_batchnorm": ["batch", "source"]},
    },
    "schedule": [{"images": [100], "epochs": 1, "seeds": 5, "evaluate_every": 1}],
    "contrasts": [{"source": "robust", "baseline": "natural", "blocks": [3]}],
}


def test_a_family_has_the_cells_of_all_recipes_of_its_study(build: Build) -> None:
    """Three of four planned ways have results; a recipe that the study does not plan is exploratory."""
    outside = arms(build, [9.0, 8.0, 9.0, 9.0, 9.0], recipe("target", "batch"))
    root = build.root([*trials(build), *outside])
    record_study(LocalStore(root), "ways", "d1", json.dumps(STUDY))
    found = {row["recipe"]: row for row in analysis.deltas(root).to_pylist()}
    explored = found.pop(recipe_digest(recipe("target", "batch")))
    assert (explored["p_holm"], explored["n_pairs"]) == (None, 5)
    p = sorted(row["p_value"] for row in found.values())
    assert sorted(row["p_holm"] for row in found.values()) == pytest.approx(
        [3 * p[0], max(3 * p[0], 2 * p[1]), max(3 * p[0], 2 * p[1], p[2])]
    )
    assert {row["method"].partition("Holm over ")[2] for row in found.values()} == {"3 cells of the contrasts of ways"}
    planned = planned_cells(StudyRecord("ways", "d1", json.dumps(STUDY), tuple(Study.model_validate(STUDY).contrasts)))
    assert {cell[-1] for cell in planned["last"]} == {
        recipe_digest(recipe(rule, mode)) for rule in ("as-released", "source") for mode in ("batch", "source")
    }


def test_examinations_and_table_1a_name_recipes_in_words(build: Build) -> None:
    """There are trials of two recipes, and networks of one of these and of a recipe without a description."""
    made = trials(build, images=-1)[: 2 * 2 * len(NATURAL)]
    root = LocalStore(build.root(made))
    digest = made[0][0]["recipe"]
    for number, of in enumerate((digest, "b" * 12)):
        commit(root, "visualize", visualized(**_TUNED, finetuned_recipe=of))
        commit(root, "shape_bias", [{**row, "finetuned_recipe": of} for row in asked(number)])
    fields = {field.name: None if field.nullable else NOTHING[str(field.type)] for field in schema("attack")}
    row = {**fields, **{k: v for k, v in clean("natural", 11.4).items() if v is not None}}
    commit(root, "attack", [{**row, "trial_id": "attack-digits-natural-0123456789abcdef"}])
    found = reported(root)
    words = "normalization as-released"
    assert {row[-1] for row in found.tables["table1a"].rows} == {"", words, "normalization source"}
    assert any(f"recipe {words}" in panel.title for panel in found.figures["shape-bias"].panels)
    assert any(f"recipe {words}" in one.title for one in found.pictures.values())


def test_the_page_names_the_ways_in_words(build: Build) -> None:
    root = build.root(trials(build))
    page = analysis.report(root)
    text = page.read_text()
    assert "Effect of normalization and BatchNorm mode" in text
    assert "<td>robust minus natural</td>" in text
    assert '<td class="number">-3.00</td>' in text
    assert "own trials, frozen_batchnorm batch, normalization source" in text, "headlines and choices"
    names = {path.name for path in page.parent.iterdir()}
    assert {f"confound.{form}" for form in ("png", "svg", "pdf", "csv")} <= names
    table = pd.read_csv(page.parent / "confound-deltas.csv")
    assert table["normalization"].tolist() == ["as-released", "source", "as-released"]
    plain = analysis.report(build.root(build.arms(NATURAL, NATURAL), "plain")).read_text()
    assert "Effect of normalization and BatchNorm mode" not in plain


def test_equal_changes_have_an_interval_without_width_and_a_remark(build: Build) -> None:
    released, gains = ("as-released", "batch"), GAINS["as-released", "batch"]
    rows = [*arms(build, gains, recipe(*released)), *arms(build, [one - 3 for one in gains], recipe("source", "batch"))]
    made = present(confound(*given(build, rows)))
    assert made.table.rows[1][-2:] == ("-3.00", "-3.00 to -3.00")
    assert made.table.notes[-1] == "In 1 row all changes are equal: an interval without width, not precision."
    whole = present(confound(*given(build, trials(build))))
    assert "equal" not in " ".join(whole.table.notes)
