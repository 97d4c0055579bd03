"""Declared equivalences: what is concluded from which trials, compared with differences taken by hand."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

import analysis
from analysis.evaluations.frames import frame
from analysis.output import formats
from analysis.paired.contrasts import declared_equivalences
from analysis.paired.equivalence import NOT_SHOWN, WITHIN, answers, equivalence_table
from analysis.paired.studies import study_of
from analysis.statistics.paired_t import half_width, moments
from jobs.errors import Code
from jobs.results import Launch, LocalStore, StudyRecord, record_study, write_launch
from jobs.specs.canonical import canonical_json
from jobs.specs.equivalence import Equivalence
from jobs.specs.recipes import Recipe
from jobs.specs.trial import recipe_digest
from jobs.study.expand import fine_tuned
from tests.analysis.reported import reported
from tests.analysis.support import Build, Row, Rows, Values
from tests.support import refused

PRECISION: dict[str, Any] = {
    "source": "l2",
    "baseline": "natural",
    "blocks": [3],
    "recipe": {"precision": "bfloat16"},
    "against": {"precision": "float32"},
    "within": 0.5,
}
SOURCES = {"natural": "none", "l2": "l2"}
Accuracy = Callable[[str, str, str, int, int], float]
"""Test accuracy in percent at the last epoch, by source, precision, dataset, number of images and seed."""


def drawn(source: str, precision: str, dataset: str, images: int, seed: int) -> float:
    """Accuracies that vary by seed much more than by precision."""
    rng = np.random.default_rng([len(source), len(precision), len(dataset), images, seed])
    return 50.0 + 5 * (seed % 3) + 2 * len(source) + rng.normal(0, 0.15)


def of_recipe(**choices: Any) -> Row:
    recipe = Recipe.model_validate(choices)
    return {"recipe": recipe_digest(recipe), "recipe_json": canonical_json(recipe.model_dump(mode="json"))}


def trials(build: Build, accuracy: Accuracy = drawn, seeds: int = 6, **columns: Any) -> Iterator[Rows]:
    """Yield trials of two sources and two precisions on two datasets and two sizes, evaluated after 11 and 30."""
    for precision in ("float32", "bfloat16"):
        for source, constraint in SOURCES.items():
            for dataset in ("digits", "mnist"):
                for images in (50, 200):
                    for seed in range(seeds):
                        value = accuracy(source, precision, dataset, images, seed)
                        point: Row = {"constraint": constraint, "dataset": dataset, "images": images}
                        columns_of_all = {**of_recipe(precision=precision), **point, **columns}
                        yield build.trial(
                            source, seed, {11: value - 7.0 - 3 * (source == "l2"), 30: value}, **columns_of_all
                        )


def declaring(*equivalences: Row, name: str = "mine", **changes: Any) -> Row:
    """Return the values of a study that declares the equivalences."""
    grid = {"source": [*SOURCES], "dataset": ["digits", "mnist"], "blocks": [3]}
    return {
        "name": name,
        "grid": {**grid, "recipe": {"precision": ["float32", "bfloat16"]}},
        "schedule": [{"images": [50, 200], "epochs": 30, "seeds": 6, "evaluate_every": 10}],
        "recipe": {},
        **({"equivalences": equivalences} if equivalences else {}),
        **changes,
    }


def declare(root: Path, *equivalences: Row, name: str = "mine", digest: str = "d1", **changes: Any) -> Path:
    """Record a study that declares the equivalences."""
    record_study(LocalStore(root), name, digest, json.dumps(declaring(*equivalences, name=name, **changes)))
    return root


def answered(build: Build, rows: Iterable[Rows], *equivalences: Row, **changes: Any) -> pa.Table:
    """Return the table of a study that declares the equivalences, from trials that are in no root."""
    study = declaring(*equivalences, **changes)
    declared = tuple(Equivalence.model_validate(one) for one in equivalences)
    record = StudyRecord("mine", "d1", json.dumps(study), (), declared)
    return equivalence_table(frame(build.table(rows)), declared_equivalences([record], []))


def found(root: Path, study: str | None = None) -> pd.DataFrame:
    table: pd.DataFrame = analysis.equivalences(root, study).to_pandas()
    return table


def by_seed(dataset: str, images: int, seed: int) -> float:
    """Return the change of the delta of one seed, from the accuracies of its four trials."""
    ours, base, ours_before, base_before = (
        drawn(source, precision, dataset, images, seed)
        for precision in ("bfloat16", "float32")
        for source in ("l2", "natural")
    )
    return (ours - base) - (ours_before - base_before)


def test_each_cell_is_the_t_interval_of_differences_taken_by_hand(build: Build) -> None:
    rows = found(declare(build.root(trials(build, seeds=3)), PRECISION))
    assert [(row.dataset, row.images) for row in rows.itertuples()] == [
        ("digits", 50),
        ("digits", 200),
        ("mnist", 50),
        ("mnist", 200),
    ]
    for row in rows.to_dict("records"):
        by_hand = [by_seed(row["dataset"], row["images"], seed) for seed in range(3)]
        test = stats.ttest_1samp(by_hand, 0)
        low, high = test.confidence_interval(0.95)
        assert (row["mean_change"], row["ci_low"], row["ci_high"]) == pytest.approx((np.mean(by_hand), low, high))
        assert (row["n_pairs"], row["n_unpaired"], row["epoch"], row["epochs"]) == (3, 0, 30, 30)
        assert row["verdict"] == (WITHIN if low >= -0.5 and high <= 0.5 else NOT_SHOWN)
        assert row["excludes_zero"] == (test.pvalue < 0.05)
    assert set(rows["recipe"]) == {of_recipe(precision="bfloat16")["recipe"]}
    assert set(rows["against"]) == {of_recipe(precision="float32")["recipe"]}


def shifted(by: float, spread: float) -> Accuracy:
    """Deltas change by ``by``, and by ``spread`` more or less from seed to seed."""

    def accuracy(source: str, precision: str, dataset: str, images: int, seed: int) -> float:
        changed = source == "l2" and precision == "bfloat16"
        return 50.0 + seed + (by + spread * (1 if seed % 2 else -1)) * changed

    return accuracy


@pytest.mark.parametrize(
    ("by", "spread", "verdict", "excludes"),
    [
        (0.0, 0.1, WITHIN, False),
        (0.25, 0.1, WITHIN, True),  # a change that is there, and does not matter
        (0.45, 0.1, NOT_SHOWN, True),  # the point is inside, the interval is not
        (2.0, 0.1, NOT_SHOWN, True),
        (0.0, 3.0, NOT_SHOWN, False),  # too few seeds for this noise
        (0.0, 0.0, WITHIN, False),
    ],
)
def test_the_verdict_is_of_the_interval_and_not_of_the_point(
    build: Build, by: float, spread: float, verdict: str, excludes: bool
) -> None:
    for sign in (1, -1):
        rows = answered(build, trials(build, shifted(sign * by, spread)), PRECISION).to_pandas()
        assert set(rows["verdict"]) == {verdict}
        assert set(rows["excludes_zero"]) == {excludes}
        assert all(("all changes are equal" in method) == (spread == 0) for method in rows["method"])


def test_changes_that_cancel_are_equal_in_spite_of_rounding_errors(build: Build) -> None:
    """Both arms gain the same from the other precision, in units of one of 360 test images."""

    def accuracy(source: str, precision: str, dataset: str, images: int, seed: int) -> float:
        right = 200 + 7 * seed + 11 * (source == "l2") + (1 + seed) * (precision == "bfloat16")
        return 100 * right / 360

    rows = answered(build, trials(build, accuracy), PRECISION).to_pandas()
    assert set(rows["excludes_zero"]) == {False}
    assert set(rows["mean_change"]) == {0.0}
    assert all("all changes are equal" in method for method in rows["method"])


def test_all_cells_must_be_within(build: Build) -> None:
    def one_moves(source: str, precision: str, dataset: str, images: int, seed: int) -> float:
        moves = (dataset, images) == ("mnist", 200)
        return shifted(4.0 if moves else 0.0, 0.1)(source, precision, dataset, images, seed)

    (answer,) = answers(answered(build, trials(build, one_moves), PRECISION))
    assert answer.conclusion.startswith("Not shown")
    assert "3 of 4" in answer.conclusion
    (answer,) = answers(answered(build, trials(build, shifted(0.1, 0.1)), PRECISION))
    assert answer.conclusion.startswith("Shown")
    assert "4 of 4" in answer.conclusion


def without(rows: Iterator[Rows], **values: Any) -> list[Rows]:
    """Leave out the trials with all of these values."""
    return [one for one in rows if any(one[0][key] != value for key, value in values.items())]


def test_a_cell_without_an_arm_or_without_trials_is_a_row_that_shows_nothing(build: Build) -> None:
    arm = {"source": "l2", "dataset": "mnist", "images": 200, **of_recipe(precision="float32")}
    kept = without(iter(without(trials(build, shifted(0, 0.1)), **arm)), dataset="digits", images=50)
    rows = answered(build, kept, PRECISION).to_pandas()
    counts = rows[["dataset", "images", "n_pairs", "n_unpaired", "verdict"]].to_dict("split")["data"]
    assert counts == [
        ["digits", 50, 0, 0, NOT_SHOWN],
        ["digits", 200, 6, 0, WITHIN],
        ["mnist", 50, 6, 0, WITHIN],
        ["mnist", 200, 0, 6, NOT_SHOWN],
    ]
    nothing = rows[rows["n_pairs"] == 0]
    assert nothing[["mean_change", "ci_low", "ci_high", "excludes_zero"]].isna().all(axis=None)
    assert set(nothing["method"]) == {"no pairs"}


@pytest.mark.parametrize("arms", [{"source": "l2"}, {"source": "natural"}, of_recipe(precision="bfloat16")])
def test_half_of_the_trials_show_nothing(build: Build, arms: Row) -> None:
    rows = answered(build, without(trials(build), **arms), PRECISION).to_pandas()
    assert set(zip(rows["n_pairs"], rows["n_unpaired"], rows["verdict"], strict=True)) == {(0, 6, NOT_SHOWN)}


def test_a_root_without_trials_shows_nothing(build: Build) -> None:
    rows = answered(build, [], PRECISION).to_pandas()
    assert (len(rows), set(rows["verdict"]), set(rows["n_pairs"])) == (4, {NOT_SHOWN}, {0})


def test_seeds_in_some_arms_only_are_counted(build: Build) -> None:
    kept = without(trials(build), seed=2, source="natural", **of_recipe(precision="bfloat16"))
    rows = answered(build, kept, PRECISION).to_pandas()
    assert set(zip(rows["n_pairs"], rows["n_unpaired"], strict=True)) == {(5, 1)}


def test_one_seed_has_no_interval(build: Build) -> None:
    rows = answered(build, trials(build, seeds=1), PRECISION).to_pandas()
    assert set(rows["verdict"]) == {NOT_SHOWN}
    assert rows["mean_change"].notna().all()
    assert rows[["ci_low", "ci_high", "excludes_zero"]].isna().all(axis=None)


def test_other_lengths_imported_trials_and_other_depths_take_no_part(build: Build) -> None:
    alone = answered(build, trials(build), PRECISION).to_pandas()
    others = [
        *trials(build, shifted(9, 1), epochs=60),
        *trials(build, shifted(9, 1), origin="imported"),
        *trials(build, shifted(9, 1), blocks=1),
    ]
    beside = answered(build, [*trials(build), *others], PRECISION).to_pandas()
    pd.testing.assert_frame_equal(alone, beside)


def test_numerics_are_separate_answers_with_a_row_for_each_cell(build: Build) -> None:
    old = without(trials(build, shifted(0, 0.1), numerics=0), dataset="mnist")
    table = answered(build, [*trials(build, shifted(0, 0.1)), *old], PRECISION)
    older, newer = answers(table)
    assert (older.equivalence[-10:], newer.equivalence[-10:]) == ("numerics 0", "numerics 1")
    assert [cell["n_pairs"] for cell in older.cells] == [6, 6, 0, 0]
    assert older.conclusion.startswith("Not shown")
    assert newer.conclusion.startswith("Shown")


def test_one_seed_with_two_subsets_is_refused(build: Build) -> None:
    apart = [
        [{**row, "subset_sha256": "f" * 64} for row in rows] if rows[0]["recipe"] != recipe_digest(Recipe()) else rows
        for rows in trials(build)
    ]
    with refused(Code.NOT_PAIRED, "subset"):
        answered(build, apart, PRECISION).to_pandas()


def test_a_numbered_epoch_is_that_evaluation(build: Build) -> None:
    rows = answered(build, trials(build), PRECISION | {"epoch": 11}, PRECISION).to_pandas()
    early, last = (rows[rows["epoch"] == at] for at in (11, 30))
    assert (len(early), len(last)) == (4, 4)
    assert early["mean_change"].to_numpy() == pytest.approx(last["mean_change"].to_numpy())  # both arms shift alike
    assert set(early["epochs"]) == {30}


def both_ways(build: Build) -> Iterator[Rows]:
    """Yield trials of two precisions with two learning rates; the change is 1 with one and 0 with the other."""
    for rate, change in ((0.1, 0.0), (0.05, 1.0)):
        for precision in ("float32", "bfloat16"):
            for source, constraint in SOURCES.items():
                for seed in range(5):
                    value = 40.0 + seed + change * (source == "l2" and precision == "bfloat16")
                    recipe = of_recipe(precision=precision, learning_rate=rate)
                    yield build.trial(source, seed, {30: value}, images=50, constraint=constraint, **recipe)


def test_each_other_choice_is_a_cell_of_its_own(build: Build) -> None:
    varied = {"precision": ["float32", "bfloat16"], "learning_rate": [0.1, 0.05]}
    grid = {"source": [*SOURCES], "dataset": ["digits"], "blocks": [3], "recipe": varied}
    rows = [{"images": [50], "epochs": 30, "seeds": 5, "evaluate_every": 30}]
    answer = answered(build, both_ways(build), PRECISION, grid=grid, schedule=rows)
    table = answer.to_pandas()
    assert dict(zip(table["other_choices"], table["mean_change"], strict=True)) == pytest.approx(
        {"learning_rate 0.1": 0.0, "learning_rate 0.05": 1.0}
    )
    for row in table.to_dict("records"):
        rate = float(row["other_choices"].split()[1])
        sides = [of_recipe(precision=name, learning_rate=rate)["recipe"] for name in ("bfloat16", "float32")]
        assert [row["recipe"], row["against"]] == sides
    narrowed = {key: PRECISION[key] | {"learning_rate": 0.1} for key in ("recipe", "against")}
    only = answered(build, both_ways(build), PRECISION | narrowed, grid=grid, schedule=rows)
    (row,) = only.to_pylist()
    assert (row["mean_change"], row["other_choices"]) == (0.0, "")
    assert "learning_rate 0.1, within" in row["equivalence"]
    assert "other choices" in formats.text(answer, "table", 120)
    assert "other choices" not in formats.text(only, "table", 120)


def test_swapping_both_sides_swaps_the_sign(build: Build) -> None:
    swapped = PRECISION | {"recipe": PRECISION["against"], "against": PRECISION["recipe"]}
    one, other = (answered(build, trials(build), declared).to_pandas() for declared in (PRECISION, swapped))
    assert one["mean_change"].to_numpy() == pytest.approx(-other["mean_change"].to_numpy())
    assert one["ci_low"].to_numpy() == pytest.approx(-other["ci_high"].to_numpy())


def test_every_study_has_its_own_answers_and_older_records_have_none(build: Build) -> None:
    root = build.root(trials(build, seeds=2))
    declare(root, name="older")
    assert found(root).empty
    assert list(analysis.equivalences(root).schema.names) == list(found(root).columns)
    declare(root, PRECISION, name="mine")
    declare(root, PRECISION | {"within": 2.0}, name="wide")
    rows = found(root)
    assert rows.groupby("study")["within"].unique().map(list).to_dict() == {"mine": [0.5], "wide": [2.0]}
    assert set(found(root, "wide")["study"]) == {"wide"}
    assert found(root, "older").empty
    with refused(Code.UNKNOWN_NAME, "'yours'", "mine, older, wide", key="--study"):
        found(root, "yours")


def test_the_most_recently_launched_version_counts(build: Build) -> None:
    root = build.root(trials(build, seeds=2))
    declare(root, PRECISION, digest="d1")
    declare(root, PRECISION, PRECISION | {"within": 1.0}, digest="d2")
    assert set(found(root)["within"]) == {0.5, 1.0}
    assert len(found(root)) == 8  # what both versions declare is there once
    for digest, number in (("d2", 1), ("d1", 2)):
        at = f"2026-11-0{number}T00:00:00+00:00"
        launch = f"2026110{number}T000000Z-0000000{number}"
        write_launch(LocalStore(root), Launch(launch, "mine", digest, "me", "here", at, "1", {}, at, ended_at=at))
    assert set(found(root)["within"]) == {0.5}


def test_the_page_has_a_table_for_each_with_its_conclusion(build: Build) -> None:
    root = declare(build.root(trials(build, shifted(0.1, 0.1))), PRECISION, PRECISION | {"epoch": 11, "within": 0.05})
    tables = {name: table for name, table in reported(LocalStore(root)).tables.items() if name.startswith("equiv")}
    assert list(tables) == ["equivalence-1", "equivalence-2"]
    first, second = tables.values()
    assert first.rows[0] == ("digits", "3", "50", "30", "6", "0", "+0.10", "-0.01 to +0.21", "no", WITHIN)
    assert (first.notes[0][:5], second.notes[0][:9]) == ("Shown", "Not shown")
    plain = declare(build.root(trials(build, seeds=1), "plain"))
    assert not [name for name in reported(LocalStore(plain)).tables if name.startswith("equiv")]


def test_answers_of_a_study_with_trials_to_come_are_said_not_to_be_final(build: Build) -> None:
    study = study_of(StudyRecord("mine", "d1", json.dumps(declaring(PRECISION)), (), ()))
    ids = defaultdict[tuple[object, ...], list[str]](list)
    for one in sorted(fine_tuned(study), key=lambda one: one.seed):
        ids[one.source, one.dataset, one.images, recipe_digest(one.recipe)].append(one.trial_id)
    rows = list(trials(build, shifted(0.1, 0.1)))
    for row in (row for one in rows for row in one):
        row["trial_id"] = ids[row["source"], row["dataset"], row["images"], row["recipe"]][int(str(row["seed"]))]
    for kept, final in ((rows[:-1], False), (rows, True)):
        root = declare(build.root(kept, f"root-{len(kept)}"), PRECISION)
        text = formats.text(analysis.equivalences(root), "table")
        assert "Shown: the change is within" in text
        assert "4 rows: paired t 95%" in text
        (of_page,) = (table for name, table in reported(LocalStore(root)).tables.items() if name == "equivalence-1")
        for said in (text, "\n".join(of_page.notes)):
            assert ("95 of 96 trials of mine are done" in said) != final


def test_the_terminal_has_a_block_for_each(build: Build) -> None:
    text = formats.text(answered(build, trials(build), PRECISION), "table", 100)
    assert max(map(len, text.splitlines()[:-1])) <= 100
    assert "declared by mine: l2 minus natural, blocks 3, last epoch" in " ".join(text.split())
    assert text.count(" digits ") == 2
    empty = analysis.equivalences(declare(build.root([], "empty"), name="none"))
    assert "declares an equivalence" in formats.text(empty, "table")


def falsely_shown(values: Values) -> float:
    """Return the share of cells, one per row, whose interval lies within a margin of 1."""
    cells, pairs = values.shape
    of_cells = moments(values.ravel(), np.repeat(np.arange(cells), pairs), cells)
    half = half_width(of_cells, 0.95)
    return float(np.mean((of_cells.mean - half >= -1) & (of_cells.mean + half <= 1)))


@pytest.mark.parametrize("pairs", [5, 10, 20])
def test_a_change_as_large_as_the_margin_is_rarely_shown_to_be_within(pairs: int) -> None:
    """As documented: at most 2.5 % for normal changes, and up to .11 for changes skewed towards the margin."""
    rng = np.random.default_rng(pairs)
    assert falsely_shown(1 + rng.normal(0, 0.25, (20_000, pairs))) == pytest.approx(0.025, abs=0.004)
    skewed = {5: 0.11, 10: 0.095, 20: 0.075}[pairs]
    assert falsely_shown(1 + 0.25 * (rng.exponential(1, (20_000, pairs)) - 1)) == pytest.approx(skewed, abs=0.008)
