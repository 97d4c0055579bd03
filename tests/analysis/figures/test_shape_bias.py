"""Shape bias compared with hand-computed values, its figure and its place on the page; Table 1a."""

import math

import pandas as pd
import pytest
from scipy import stats

import analysis
from analysis.evaluations.frames import frame
from analysis.figures.attack import COLUMNS as ATTACKS
from analysis.figures.shape_bias import COLUMNS, OVERALL, shape_bias_figure, shape_biases
from analysis.tables.before_and_after import table1a
from jobs.results import LocalStore, commit, schema
from tests.analysis.examined import CAR, CAT, DOG, NOTHING, TINY, asked, clean
from tests.analysis.support import Build, Rows
from tests.support import present


def rows_of(*trials: Rows) -> pd.DataFrame:
    return pd.DataFrame([row for rows in trials for row in rows])[list(COLUMNS)]


def test_by_hand() -> None:
    found = shape_biases(rows_of(asked())).set_index("category")
    bias, decided = found["bias"].to_dict(), found["decided"].to_dict()
    assert (bias[OVERALL], decided[OVERALL]) == (50, 75)
    assert (bias[CAT], decided[CAT]) == pytest.approx((200 / 3, 75))
    assert (bias[DOG], decided[DOG]) == pytest.approx((100 / 3, 100))
    assert math.isnan(bias[CAR])
    assert decided[CAR] == 0


def test_overall_is_of_all_images_and_no_mean_of_categories() -> None:
    many = (*TINY, *[(CAT, DOG, CAT)] * 6)
    found = shape_biases(rows_of(asked(decisions=many))).set_index("category")
    assert found.loc[OVERALL, "bias"] == 75
    assert found.loc[[CAT, DOG], "bias"].mean() == pytest.approx((800 / 9 + 100 / 3) / 2)


def test_the_figure_has_a_point_for_each_category_that_was_decided() -> None:
    figure = present(shape_bias_figure(rows_of(asked())))
    (panel,) = figure.panels
    assert panel.title == "digits_conflict, sources"
    assert panel.ticks == (OVERALL, CAR, CAT, DOG)
    assert [(p["x"], p["n"]) for p in panel.points.to_dict("records")] == [(0, 1), (2, 1), (3, 1)]
    assert figure.table()["x"].tolist() == [OVERALL, CAT, DOG], "by name in the numbers"
    assert "75 % by natural" in figure.words


def test_intervals_are_over_the_seeds() -> None:
    """Of 50, 50, 50, 100 and 100 %: mean 70, variance (3 x 400 + 2 x 900) / 4 = 750."""
    by_shape = tuple((shape, texture, shape) for shape, texture, _ in TINY)
    trials = [asked(seed, by_shape if seed > 3 else TINY) for seed in range(1, 6)]
    point = present(shape_bias_figure(rows_of(*trials))).panels[0].points.to_dict("records")[0]
    half = stats.t.ppf(0.975, 4) * math.sqrt(750 / 5)
    assert (point["mean"], point["low"], point["high"]) == pytest.approx((70, 70 - half, 70 + half))
    assert point["n"] == 5


def test_networks_of_other_kinds_are_panels_and_other_recipes_series_of_their_own() -> None:
    trials = [asked(), asked(1), asked(2, recipe="b"), asked(3, source="l2_eps3")]
    tuned, sources = present(shape_bias_figure(rows_of(*trials))).panels
    assert (tuned.title, sources.title) == ("digits_conflict, 3 blocks, 400 images", "digits_conflict, sources")
    assert set(tuned.points["series"]) == {"natural", "l2_eps3"}
    assert set(tuned.points["variant"]) == {"recipe x", "recipe b"}
    assert set(sources.points["variant"]) == {"recipe x"}, "named in all panels: a legend has no entry without words"


def test_networks_that_were_tuned_on_other_images_are_panels_of_their_own() -> None:
    by_shape = tuple((shape, texture, shape) for shape, texture, _ in TINY)
    trials = [asked(1, finetuned_dataset="digits"), asked(1, by_shape, finetuned_dataset="digits_lowres5")]
    figure = present(shape_bias_figure(rows_of(*trials)))
    told = {panel.title: panel.points["mean"].iloc[0] for panel in figure.panels}
    name = "digits_conflict, 3 blocks, 400 images, fine-tuned on"
    assert told == {f"{name} digits": 50, f"{name} digits_lowres5": 100}


def test_networks_that_differ_in_when_they_were_evaluated_count_once() -> None:
    more = asked(1, finetuned="finetune-natural-evaluated-more-often")
    figure = present(shape_bias_figure(rows_of(asked(1), more, asked(2))))
    assert figure.panels[0].points["n"].iloc[0] == 2


def test_no_trial_no_figure() -> None:
    assert shape_bias_figure(pd.DataFrame(columns=list(COLUMNS))) is None


def test_the_page_shows_it_with_its_numbers(build: Build) -> None:
    root = build.root([build.trial("natural", 0, 50.0)])
    for seed in (1, 2):
        commit(LocalStore(root), "shape_bias", asked(seed))
    page = analysis.report(root)
    text = page.read_text()
    assert "Diagnostics: shape bias" in text
    assert "(cf. Figure 4 of Geirhos et al. (2019))" in text
    assert "<td>cat</td>" in text
    assert '<td class="number">66.6667</td>' in text
    assert {f"shape-bias.{form}" for form in ("png", "svg", "pdf", "csv")} <= {p.name for p in page.parent.iterdir()}
    lines = (page.parent / "shape-bias.csv").read_text().splitlines()
    assert any(",cat," in line for line in lines)


# --- Table 1a ---


def test_table_1a_before_and_after(build: Build) -> None:
    trials = [
        build.trial("natural", seed, {1: 1.0, 3: value}, images=-1, blocks=blocks)
        for blocks, values in ((0, (30.0, 31.0, 32.0, 33.0, 34.0)), (3, (50.0, 52.0)))
        for seed, value in enumerate(values)
    ]
    trials += [build.trial("robust", 0, {3: 60.0}, images=-1, blocks=3), build.trial("other", 0, {3: 1.0})]
    attacks = pd.DataFrame(
        [
            clean("robust", 20.1),
            clean("natural", 11.4),
            clean("natural", 99.0, test_images=20),
            clean("natural", 98.0, finetuned="finetune-x"),
            clean("natural", 97.0, constraint="l2", epsilon=1.0),
            clean("natural", 96.0, dataset="elsewhere"),
        ]
    )
    made = present(table1a(frame(build.table(trials)), attacks))
    half = stats.t.ppf(0.975, 4) * math.sqrt(2.5 / 5)
    assert made.columns == ("dataset", "source", "fine-tuned", "images", "epochs", "accuracy", "low", "high", "trials")
    assert made.rows == (
        ("digits", "natural", "nothing", "", "", "11.40", "", "", "1"),
        ("digits", "natural", "FC layer", "all", "3", "32.00", f"{32 - half:.2f}", f"{32 + half:.2f}", "5"),
        ("digits", "natural", "3 blocks", "all", "3", "51.00", "", "", "2"),
        ("digits", "robust", "nothing", "", "", "20.10", "", "", "1"),
        ("digits", "robust", "3 blocks", "all", "3", "60.00", "", "", "1"),
    )


def test_table_1a_tells_evaluations_apart_and_what_nothing_tells_apart_once(build: Build) -> None:
    data = frame(build.table([build.trial("natural", 0, 50.0)]))
    alike = [clean("natural", 11.4, recipe="a", numerics=1, seed=seed, trial_id=f"attack-{seed}") for seed in (1, 2)]
    assert [row[5] for row in present(table1a(data, pd.DataFrame(alike))).rows] == ["11.40", "50.00"]
    other = clean("natural", 11.4, recipe="b", numerics=1, trial_id="attack-3")
    made = present(table1a(data, pd.DataFrame([*alike, other])))
    assert made.columns[-2:] == ("trials", "evaluation recipe")
    assert [(row[2], row[-1]) for row in made.rows] == [("nothing", "a"), ("nothing", "b"), ("3 blocks", "")]


def test_imported_trials_without_their_last_epoch_make_no_table_1a_and_no_error(build: Build) -> None:
    imported = build.trial("natural", 0, {1: 50.0}, origin="imported", recipe="imported", epochs=30)
    made = table1a(frame(build.table([imported])), pd.DataFrame([clean("natural", 11.4)]))
    assert made is None


def test_no_table_1a_without_both(build: Build) -> None:
    data = frame(build.table([build.trial("natural", 0, 50.0)]))
    assert table1a(data, pd.DataFrame([clean("natural", 9.0, dataset="elsewhere")])) is None
    assert table1a(data, pd.DataFrame(columns=list(ATTACKS))) is None


@pytest.mark.usefixtures("no_figure_files")
def test_table_1a_is_in_the_page(build: Build) -> None:
    root = build.root([build.trial("natural", 0, 50.0)])
    fields = {f.name: None if f.nullable else NOTHING[str(f.type)] for f in schema("attack")}
    row = {**fields, **{k: v for k, v in clean("natural", 11.4).items() if v is not None}}
    commit(LocalStore(root), "attack", [{**row, "trial_id": "attack-digits-natural-0123456789abcdef"}])
    page = analysis.report(root)
    assert "Table 1a of the paper" in page.read_text()
    assert (page.parent / "table1a.csv").read_text().startswith("dataset,source,fine-tuned")
