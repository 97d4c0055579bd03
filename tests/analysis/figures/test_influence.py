"""Labels of the most influential training images: the figure's numbers, and its place on the page."""

import io
import math
import re
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

import analysis
from analysis.figures.drawing.model import Figure
from analysis.figures.influence import COLUMNS, influence_figure
from analysis.figures.influence_examples import examples
from analysis.figures.influence_matrices import matrices, matrix_of
from jobs.catalog.catalog import PACKAGED
from jobs.data.readers import read_raw
from jobs.results import LocalStore, commit
from tests.analysis.examined import weighed
from tests.analysis.support import Build, Rows
from tests.support import present

_LABELS = {1: [[7, 4, 7], [5, 7, 7]], 2: [[7, 7, 4], [5, 5, 5]], 3: [[4, 7, 7], [5, 7, 7]]}
"""Labels of the first three training images of two test images, with labels 7 and 5, by seed.

The match for k = 1, 2, 3, in percent: 100, 50, 50; 100, 100, 5/6 of 100; 50, 50, 50.
"""


def drawn(trials: list[Rows]) -> Figure:
    return present(influence_figure(pd.DataFrame([row for rows in trials for row in rows])[list(COLUMNS)]))


def test_label_match_by_hand() -> None:
    figure = drawn([weighed(seed, labels) for seed, labels in _LABELS.items()])
    (panel,) = figure.panels
    assert panel.title == "digits, 3 blocks, 400 images: influence"
    points = panel.points.to_dict("records")
    assert [(p["x"], p["n"]) for p in points] == [(1, 3), (2, 3), (3, 3)]
    assert [p["mean"] for p in points] == pytest.approx([250 / 3, 200 / 3, (100 + 500 / 6) / 3])
    assert all(math.isnan(p["low"]) for p in points), "three networks: no interval"


def test_the_ways_to_count_a_match_that_docs_tell() -> None:
    """The query in docs/explanation/why/influence.md: first, only fifth, first five, at least three of them."""
    text = (Path(__file__).parents[3] / "docs" / "explanation" / "why" / "influence.md").read_text(encoding="utf-8")
    (sql,) = [sql for sql in re.findall(r"```sql\n(.*?)```", text, re.DOTALL) if "FROM influences" in sql]
    labels = [[7, 4, 7, 7, 7], [5, 5, 4, 4, 4]]
    drawn_at_5 = drawn([weighed(1, labels)]).panels[0].points["mean"].tolist()[-1]
    with duckdb.connect() as connection:
        connection.register("influences", pd.DataFrame(weighed(1, labels)))
        (row,) = connection.sql(sql).df().to_dict("records")
    found = [row[name] for name in ("first_one", "fifth_alone", "first_five", "three_of_five")]
    assert found == pytest.approx([100, 50, 60, 50])
    assert drawn_at_5 == pytest.approx(60), "the report's curve"


def test_intervals_are_over_the_seeds() -> None:
    """For the first image: 100, 100, 50, 100, 50; mean 80, variance (3 x 400 + 2 x 900) / 4 = 750."""
    trials = [weighed(seed, _LABELS[of]) for seed, of in ((1, 1), (2, 2), (3, 3), (4, 2), (5, 3))]
    first = drawn(trials).panels[0].points.to_dict("records")[0]
    half = stats.t.ppf(0.975, 4) * math.sqrt(750 / 5)
    assert (first["mean"], first["low"]) == pytest.approx((80, 80 - half))
    assert first["high_simultaneous"] > first["high"] == pytest.approx(80 + half)


def test_measures_are_panels_and_other_choices_curves_of_their_own() -> None:
    trials = [weighed(1, _LABELS[1]), weighed(1, _LABELS[2], measure="fisher"), weighed(2, _LABELS[2], damping=0.5)]
    fisher, influence = drawn(trials).panels
    assert fisher.title.endswith("Fisher kernel")
    assert fisher.points["variant"].unique().tolist() == ["damping 1.0"], "named in all panels"
    assert sorted(influence.points["variant"].unique()) == ["damping 0.5", "damping 1.0"]


def test_no_trial_no_figure() -> None:
    assert influence_figure(pd.DataFrame(columns=list(COLUMNS))) is None


def test_examples_are_the_first_test_image_of_each_label_and_what_stands_first_for_it() -> None:
    """The lowest seed is used; images are drawn if the local dataset has the digest of the trial's."""
    sha256 = read_raw(PACKAGED.dataset("digits")).sha256
    trials = [weighed(seed, _LABELS[seed], source, dataset_sha256=sha256) for seed in (2, 1) for source in ("b", "a")]
    twice = [{**row, "test_image": row["test_image"] + 2} for rows in trials for row in rows]
    (found,) = examples(pd.DataFrame([*twice, *(row for rows in trials for row in rows)]))
    assert found.name == "figure6-1-digits-influence"
    assert found.numbers.to_dict("split")["data"] == [
        [source, number, label, 1, 0, first, -3.0]
        for source in ("a", "b")
        for number, label, first in ((1, 5, 5), (0, 7, 7))
    ]
    assert found.png is not None
    assert Image.open(io.BytesIO(present(found.png))).width > 200
    (others,) = examples(pd.DataFrame(weighed(1, _LABELS[1])))
    assert others.png is None


def test_examples_of_one_source_by_two_estimators_stand_side_by_side() -> None:
    """Cut-offs affect the order of influences, so results of different cut-offs must be distinguished."""
    rows = [
        {
            **row,
            "measure": "pseudo-inverse",
            "trial_id": trial,
            "cutoff_absolute": absolute,
            "cutoff_relative": relative,
            "decomposition": "eigh",
        }
        for trial, of, absolute, relative in (("a", 1, 1e-20, 0.0), ("b", 3, 0.0, 0.05))
        for row in weighed(1, _LABELS[of])
    ]
    (found,) = examples(pd.DataFrame(rows))
    firsts = found.numbers[found.numbers["test_image"] == 0][["source", "train_label"]]
    assert firsts.to_dict("split")["data"] == [
        ["natural, cutoff_absolute 0.0, cutoff_relative 0.05", 4],
        ["natural, cutoff_absolute 1e-20, cutoff_relative 0.0", 7],
    ]


def test_decompositions_are_told_apart_in_curves_examples_and_matrices() -> None:
    """With a cut-off that keeps rounding errors, the order of influences depends on the decomposition."""
    one_cut = {"measure": "pseudo-inverse", "cutoff_absolute": 1e-20, "cutoff_relative": 0.0}
    rows = pd.DataFrame(
        [
            {**row, **one_cut, "trial_id": name, "decomposition": name}
            for name, of in (("svd", 1), ("eigh", 3))
            for row in weighed(1, _LABELS[of])
        ]
    )
    names = ["natural, decomposition eigh", "natural, decomposition svd"]
    (shown,) = examples(rows)
    assert sorted(set(shown.numbers["source"])) == names
    (pictured,) = matrices(rows)
    assert pictured.numbers["source"].tolist() == names
    (panel,) = present(influence_figure(rows)).panels
    assert sorted(set(panel.points["variant"])) == ["decomposition eigh", "decomposition svd"]
    assert panel.points.groupby("variant")["n"].max().tolist() == [1, 1], "no mean over both"


def test_the_matrix_is_sorted_by_label_and_has_a_root_mean_square_of_one() -> None:
    """With 8 training and 2 test images, the norm 8 has the root mean square 2 (root of 64 / 16): cells are halved."""
    matrix = matrix_of(pd.DataFrame(weighed(1, _LABELS[1])))
    assert matrix.cells_HG.tolist() == [[-3, 1], [2, -1]]
    assert (matrix.test_labels_H.tolist(), matrix.train_labels_G.tolist()) == ([5, 7], [5, 7])
    assert (matrix.same, matrix.other) == (-2, 1.5)
    assert matrix_of(pd.DataFrame(weighed(1, _LABELS[1], matrix_norm=0.0, cells=[0.0, 0.0]))).same == 0


def test_matrices_stand_side_by_side_with_means_over_the_networks() -> None:
    """The norms 8, 16, 32, 16, 8 give the differences -3.5, -1.75, -0.875, -1.75, -3.5; source b has too few."""
    norms = {"a": (8.0, 16.0, 32.0, 16.0, 8.0), "b": (8.0, 16.0)}
    trials = [
        weighed(seed, _LABELS[1], source, matrix_norm=norm)
        for source, all_norms in norms.items()
        for seed, norm in enumerate(all_norms)
    ]
    (found,) = matrices(pd.DataFrame([row for rows in trials for row in rows]))
    assert (found.name, found.title) == ("figure7a-1-digits-influence", "digits, 3 blocks, 400 images: influence")
    a, b = found.numbers.to_dict("records")
    differences = [-3.5, -1.75, -0.875, -1.75, -3.5]
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert (a["source"], a["networks"], a["difference"]) == ("a", 5, pytest.approx(-11.375 / 5))
    assert (a["low"], a["high"]) == pytest.approx((interval.low, interval.high))
    assert (b["source"], b["networks"], b["same"], b["other"]) == ("b", 2, -1.5, 1.125)
    assert math.isnan(b["low"])
    assert Image.open(io.BytesIO(present(found.png))).width > Image.open(io.BytesIO(present(found.png))).height


def test_other_choices_have_matrices_of_their_own() -> None:
    trials = [weighed(1, _LABELS[1]), weighed(1, _LABELS[1], trial_id="influence-x-0123456789abcdef", damping=0.5)]
    (found,) = matrices(pd.DataFrame([row for rows in trials for row in rows]))
    assert found.numbers["source"].tolist() == ["natural, damping 0.5", "natural, damping 1.0"]


def test_the_page_shows_it_with_its_numbers(build: Build) -> None:
    root = build.root([build.trial("natural", 0, 50.0)])
    for seed, labels in _LABELS.items():
        commit(LocalStore(root), "influence", weighed(seed, labels))
    page = analysis.report(root)
    text = page.read_text()
    assert "Diagnostics: labels of the most influential training images" in text
    assert "(cf. Figure 7b of the paper)" in text
    assert '<td class="number">83.3333</td>' in text
    assert "digits, 3 blocks, 400 images: influence (cf. Figure 6 of the paper)" in text
    assert "images that were used are not available on this machine" in text, (
        "rows of other images than the digits here"
    )
    assert "digits, 3 blocks, 400 images: influence (cf. Figure 7a of the paper)" in text
    assert '<td class="number">-2.0000</td><td class="number">1.5000</td>' in text
    assert {f"figure7a-1-digits-influence.{form}" for form in ("png", "csv")} <= {p.name for p in page.parent.iterdir()}
    assert {f"influences.{form}" for form in ("png", "svg", "pdf", "csv")} <= {p.name for p in page.parent.iterdir()}


def test_what_a_measure_has_not_is_named_too() -> None:
    """A legend has no entry without words."""
    cut = {"measure": "pseudo-inverse", "damping": None, "cutoff_absolute": 0.0, "cutoff_relative": 0.05}
    trials = [weighed(1, _LABELS[1]), weighed(2, _LABELS[2], damping=0.5), weighed(1, _LABELS[1], **cut)]
    influence, pseudo = drawn(trials).panels
    assert set(influence.points["variant"]) == {"damping 0.5", "damping 1.0"}
    assert set(pseudo.points["variant"]) == {"no damping"}


@pytest.mark.parametrize(
    ("seeds", "firsts", "words"),
    [
        ({"a": (1, 2), "b": (1, 3)}, {"a": 7, "b": 7}, "of the lowest seed;"),
        ({"a": (1, 3), "b": (3,)}, {"a": 4, "b": 4}, "of the lowest seed that all have;"),
        ({"a": (1,), "b": (3,)}, {"a": 7, "b": 4}, "of its own lowest seed, since no seed is shared by all;"),
    ],
)
def test_no_source_is_lost_where_seeds_differ(
    seeds: dict[str, tuple[int, ...]], firsts: dict[str, int], words: str
) -> None:
    rows = [row for source, of in seeds.items() for seed in of for row in weighed(seed, _LABELS[seed], source)]
    (found,) = examples(pd.DataFrame(rows))
    shown = found.numbers[found.numbers["test_image"] == 0]
    assert dict(zip(shown["source"], shown["train_label"], strict=True)) == firsts
    assert words in found.caption
