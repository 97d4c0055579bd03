"""The deltas of a results root."""

import json
import random
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

import analysis
from analysis.output import formats
from analysis.paired.schema import DELTAS
from jobs.catalog.catalog import PACKAGED
from jobs.errors import Code, DamagedFile, InvalidRequest
from jobs.results import Launch, LocalStore, record_study, write_launch
from jobs.specs.recipes import Recipe
from jobs.specs.trial import recipe_digest
from tests.analysis.support import Build, Rows
from tests.support import refused

NATURAL, ROBUST = [50.0, 52.0, 51.0, 49.5, 50.5], [54.0, 57.5, 54.0, 55.0, 53.0]


def rows(table: pa.Table) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def declare(
    root: Path,
    *contrasts: dict[str, object],
    name: str = "mine",
    digest: str = "d1",
    images: Sequence[int] = (100,),
    epochs: int = 1,
    dataset: str = "digits",
) -> None:
    study = {
        "name": name,
        "contrasts": list(contrasts),
        "grid": {"source": ["natural", "robust"], "dataset": [dataset], "blocks": [1, 3]},
        "schedule": [{"images": list(images), "epochs": epochs, "seeds": 5, "evaluate_every": 20}],
        "recipe": {},
    }
    record_study(LocalStore(root), name, digest, json.dumps(study))


def launch(root: Path, identity: str, digest: str, study: str = "mine") -> None:
    now = "2026-01-02T03:04:05+00:00"
    write_launch(LocalStore(root), Launch(identity, study, digest, "u", "h", now, "1", {}, now))


def sizes(build: Build, *sizes: int, **columns: Any) -> list[Rows]:
    return [rows for images in sizes for rows in build.arms(NATURAL, ROBUST, images=images, **columns)]


CONTRAST: dict[str, object] = {"source": "robust", "baseline": "natural", "blocks": [3]}
P = stats.ttest_rel(ROBUST, NATURAL).pvalue


def test_columns_and_numbers(build: Build) -> None:
    root = build.root(build.arms(NATURAL, ROBUST))
    table = analysis.deltas(root)
    assert table.schema.equals(DELTAS)
    (row,) = rows(table)
    oracle = stats.ttest_rel(ROBUST, NATURAL)
    interval = oracle.confidence_interval(0.95)
    assert (row["source"], row["baseline"], row["n_pairs"], row["n_unpaired"]) == ("robust", "natural", 5, 0)
    assert row["mean_delta"] == pytest.approx(np.mean(np.subtract(ROBUST, NATURAL)), abs=1e-12)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert (row["p_value"], row["p_holm"]) == pytest.approx((oracle.pvalue, oracle.pvalue), rel=1e-9)
    assert row["method"] == "paired t 95%; Holm over 1 cell asked for"


def test_bands_are_bonferroni_over_the_sizes_of_a_curve(build: Build) -> None:
    trials = [rows for images in (100, 200, 400, -1) for rows in build.arms(NATURAL, ROBUST, images=images)]
    first = rows(analysis.deltas(build.root(trials)))[0]
    interval = stats.ttest_rel(ROBUST, NATURAL).confidence_interval(1 - 0.05 / 4)
    assert (first["ci_low_simultaneous"], first["ci_high_simultaneous"]) == pytest.approx(interval, abs=1e-9)


def test_whole_set_comes_after_all_sizes(build: Build) -> None:
    trials = [rows for images in (-1, 400, 100) for rows in build.arms(NATURAL, ROBUST, images=images)]
    assert [row["images"] for row in rows(analysis.deltas(build.root(trials)))] == [100, 400, -1]


def test_order_of_files_rows_and_seeds_changes_nothing(build: Build) -> None:
    trials = [rows for images in (100, 200) for rows in build.arms(NATURAL, ROBUST, images=images)]
    shuffled = [random.Random(1).sample(rows, len(rows)) for rows in random.Random(2).sample(trials, len(trials))]
    assert analysis.deltas(build.root(trials)).equals(analysis.deltas(build.root(shuffled, "other")))


def test_a_missing_seed_changes_its_own_cell_only(build: Build) -> None:
    trials = [rows for images in (100, 200) for rows in build.arms(NATURAL, ROBUST, images=images)]
    whole = rows(analysis.deltas(build.root(trials)))
    without = rows(analysis.deltas(build.root(trials[:-1], "other")))
    own = ("mean_delta", "ci_low", "ci_high", "p_value", "n_pairs", "n_unpaired")
    assert [whole[0][name] for name in own] == [without[0][name] for name in own]
    assert (without[1]["n_pairs"], without[1]["n_unpaired"]) == (4, 1)


@pytest.mark.parametrize(("seeds", "words"), [(1, "one pair: no interval"), (2, "few pairs"), (4, "few pairs")])
def test_few_pairs_say_so(build: Build, seeds: int, words: str) -> None:
    (row,) = rows(analysis.deltas(build.root(build.arms(NATURAL[:seeds], ROBUST[:seeds]))))
    assert words in row["method"]
    assert (row["ci_low"] is None) == (seeds == 1)


@pytest.mark.parametrize("method", ["paired-t", "paper-compatible"])
@pytest.mark.parametrize(("last", "told"), [(0.0, True), (0.001, False)])
def test_an_interval_without_width_is_told(build: Build, method: Any, last: float, told: bool) -> None:
    """Accuracies are counts over counts: two of few pairs may differ by as many images."""
    natural = [100 * images / 797 for images in (646, 617, 603)]
    robust = [100 * images / 797 for images in (636, 607, 593)]
    (row,) = rows(analysis.deltas(build.root(build.arms(natural, [*robust[:2], robust[2] + last])), method=method))
    assert ("all differences are equal" in row["method"]) == told
    assert (row["ci_high"] - row["ci_low"] < 1e-9) == told


def test_a_cell_of_one_arm_is_a_row_without_pairs(build: Build) -> None:
    trials = [*build.arms(NATURAL, ROBUST), build.trial("robust", 0, 60.0, images=200)]
    row = rows(analysis.deltas(build.root(trials)))[1]
    assert (row["images"], row["n_pairs"], row["n_unpaired"], row["mean_delta"]) == (200, 0, 1, None)
    assert row["method"] == "no pairs"


def test_contrasts_choose_the_baseline_and_the_family(build: Build) -> None:
    trials = [
        *build.arms(NATURAL, ROBUST),
        *build.arms([], [value + 1 for value in ROBUST], source="stronger"),
        *build.arms(NATURAL, ROBUST, blocks=1),
    ]
    root = build.root(trials)
    declare(root, {"source": "stronger", "baseline": "robust", "blocks": [3]})
    found = {(row["source"], row["baseline"], row["blocks"]): row for row in rows(analysis.deltas(root))}
    assert {baseline for _, baseline, _ in found} == {"robust"}
    assert found["stronger", "robust", 3]["method"].endswith("Holm over 1 cell of the contrasts of mine")
    assert found["natural", "robust", 1]["p_holm"] is None


def test_cells_outside_of_all_contrasts_have_no_corrected_p_and_the_table_says_so(build: Build) -> None:
    trials = [
        build.trial(source, seed, float(accuracy), constraint=constraint, images=images)
        for images in (100, 200)
        for source, constraint, accuracies in (("natural", "none", NATURAL), ("l2", "l2", ROBUST))
        for seed, accuracy in enumerate(accuracies)
    ]
    root = build.root(trials)
    declare(root, {"source": "l2", "baseline": "natural", "blocks": [3]}, images=(100,))
    found = analysis.deltas(root)
    assert [row["p_holm"] is None for row in rows(found)] == [False, True]
    words = "p (Holm) is left out for 1 cell outside the contrasts that studies declare in their newest versions"
    assert words in formats.text(found, "table")


def test_the_declared_direction_wins(build: Build) -> None:
    root = build.root([*build.arms(NATURAL, ROBUST)])
    declare(
        root,
        {"source": "robust", "baseline": "natural", "blocks": [3]},
        {"source": "other", "baseline": "robust", "blocks": [3]},
    )
    assert [(row["source"], row["baseline"]) for row in rows(analysis.deltas(root))] == [("robust", "natural")]


def test_epochs(build: Build) -> None:
    curve = {1: 20.0, 21: 40.0, 30: 45.0}
    trials = [
        build.trial(source, seed, {epoch: value + better + seed for epoch, value in curve.items()})
        for source, better in (("natural", 0), ("robust", 5))
        for seed in range(3)
    ]
    root = build.root(trials)
    assert [row["epoch"] for row in rows(analysis.deltas(root))] == [30]
    assert [row["epoch"] for row in rows(analysis.deltas(root, epoch=21))] == [21]
    assert [row["epoch"] for row in rows(analysis.deltas(root, epoch="all"))] == [1, 21, 30]
    with refused(Code.NO_ANSWER, "epoch 7", "1, 21, 30", "'last'", kind=InvalidRequest, key="--epoch"):
        analysis.deltas(root, epoch=7)


def test_bands_are_over_the_sizes_of_one_epoch(build: Build) -> None:
    """The bands of a cell are the same if other epochs are requested as well."""
    trials = [
        build.trial(source, seed, {1: 20.0 + seed**better, 30: 45.0 + seed**better}, images=images)
        for source, better in (("natural", 1), ("robust", 2))
        for images in (100, 200)
        for seed in range(3)
    ]
    root = build.root(trials)
    one, every = rows(analysis.deltas(root, epoch=30)), rows(analysis.deltas(root, epoch="all"))
    bands = [
        {
            row["images"]: (row["ci_low_simultaneous"], row["ci_high_simultaneous"])
            for row in found
            if row["epoch"] == 30
        }
        for found in (one, every)
    ]
    assert bands[0] == bands[1]
    assert len(bands[0]) == 2


def test_no_two_rows_have_the_same_keys(build: Build) -> None:
    """Trials of two lengths were both evaluated after epoch 1, and one recipe was run with two numerics."""
    trials = [
        build.trial(source, i, {1: accuracy + i, length: 90.0 + i}, numerics=numerics)
        for source, accuracy in (("natural", 50.0), ("robust", 52.0))
        for i in range(2)
        for length in (2, 3)
        for numerics in (1, 2)
    ]
    table = analysis.deltas(build.root(trials), epoch=1)
    keys = table.column_names[: table.column_names.index("n_pairs")]
    assert sorted((row["epochs"], row["numerics"]) for row in rows(table)) == [(2, 1), (2, 2), (3, 1), (3, 2)]
    assert len({tuple(row[name] for name in keys) for row in rows(table)}) == 4
    header = next(line for line in formats.text(table, "table").splitlines() if "pairs" in line).split()
    assert header[:3] == ["epochs", "numerics", "pairs"]


def test_choices_narrow_the_question(build: Build) -> None:
    trials = [rows for blocks in (1, 3) for rows in build.arms(NATURAL, ROBUST, blocks=blocks)]
    root = build.root(trials)
    assert [row["blocks"] for row in rows(analysis.deltas(root, blocks=1))] == [1]
    with refused(Code.UNKNOWN_NAME, "blocks 9", "1, 3", kind=InvalidRequest, key="blocks"):
        analysis.deltas(root, blocks=[1, 9])
    with refused(Code.UNKNOWN_NAME, "dataset digits", "blocks 9", "1, 3", kind=InvalidRequest, key="blocks"):
        analysis.deltas(root, dataset="digits", blocks=9)
    with refused(Code.NO_ANSWER, "got natural", "robust minus natural", kind=InvalidRequest, key="source"):
        analysis.deltas(root, source="natural")


def test_wrong_requests(build: Build) -> None:
    root = build.root(build.arms(NATURAL, ROBUST))
    with refused(Code.UNKNOWN_NAME, "'nobody'", "natural, robust", kind=InvalidRequest, key="--baseline"):
        analysis.deltas(root, baseline="nobody")
    with refused(Code.UNKNOWN_NAME, "'other'", kind=InvalidRequest, key="--study"):
        analysis.deltas(root, study="other")
    with refused(Code.WRONG_VALUE, "between 0 and 1", "got 95", kind=InvalidRequest, key="confidence"):
        analysis.deltas(root, confidence=95)
    empty, nowhere = build.root([], "empty"), root / "nowhere"
    with refused(Code.NO_ANSWER, empty, "`deltasweep launch`", "`resume`", kind=InvalidRequest, file=empty):
        analysis.deltas(empty)
    with refused(Code.NO_ROOT, nowhere, "--results", kind=InvalidRequest, file=nowhere, key="--results"):
        analysis.deltas(nowhere)


def test_no_obvious_baseline(build: Build) -> None:
    two = build.root([build.trial("natural", 0, 50.0), build.trial("also", 0, 50.0, constraint="none")])
    values = ("got 2 (also, natural)", "--baseline", "of: also, natural")
    with refused(Code.NO_ANSWER, *values, kind=InvalidRequest, key="--baseline"):
        analysis.deltas(two)
    alone = build.root([build.trial("natural", 0, 50.0)], "alone")
    with refused(Code.NO_ANSWER, "two sources", "only these: natural", kind=InvalidRequest, key="source"):
        analysis.deltas(alone)


@pytest.mark.parametrize("declared", [True, False])
def test_every_origin_has_a_baseline_of_its_own(build: Build, declared: bool) -> None:
    """The demo's sources beside the paper's: neither set has trials of the other's natural source."""
    own = [*build.arms(NATURAL, ROBUST)]
    paper = [
        build.trial(source, i, value, origin="imported", recipe="imported", constraint=constraint)
        for source, constraint, arm in (("natural_in50", "none", NATURAL), ("l2_in50", "l2", ROBUST))
        for i, value in enumerate(arm)
    ]
    root = build.root([*own, *paper])
    if declared:
        declare(root, CONTRAST)
    assert [(row["source"], row["baseline"], row["origin"], row["n_pairs"]) for row in rows(analysis.deltas(root))] == [
        ("l2_in50", "natural_in50", "imported", 5),
        ("robust", "natural", "run", 5),
    ]


def test_an_origin_without_a_baseline_is_not_lost(build: Build) -> None:
    alone = [build.trial("l2_in50", i, 50.0, origin="imported", recipe="imported") for i in range(3)]
    found = rows(analysis.deltas(build.root([*build.arms(NATURAL, ROBUST), *alone])))
    assert [(row["source"], row["n_pairs"], row["n_unpaired"]) for row in found] == [
        ("l2_in50", 0, 3),
        ("l2_in50", 0, 5),
        ("robust", 5, 0),
    ]


def test_a_damaged_file_is_named(build: Build) -> None:
    root = build.root(build.arms(NATURAL, ROBUST))
    damaged = next(root.glob("trials/finetune/*/*.parquet"))
    damaged.write_bytes(b"PAR1")
    with refused(Code.DAMAGED_RESULT, damaged, kind=DamagedFile, file=damaged):
        analysis.deltas(root)


def test_paper_compatible_is_the_seeded_percentile_bootstrap(build: Build) -> None:
    trials = [rows for images in (100, 200) for rows in build.arms(NATURAL, ROBUST, images=images)]
    both = rows(analysis.deltas(build.root(trials), method="paper-compatible"))
    alone = rows(analysis.deltas(build.root(trials[:10], "alone"), method="paper-compatible"))
    assert (both[0]["ci_low"], both[0]["ci_high"]) == (alone[0]["ci_low"], alone[0]["ci_high"])
    paired_t = rows(analysis.deltas(build.folder / "root"))[0]
    assert paired_t["ci_low"] < both[0]["ci_low"] < both[0]["mean_delta"] < both[0]["ci_high"] < paired_t["ci_high"]
    assert both[0]["ci_low_simultaneous"] is None
    assert "percentile bootstrap" in both[0]["method"]
    with refused(Code.WRONG_VALUE, "paired-t, paper-compatible", "'normal'", kind=InvalidRequest, key="method"):
        analysis.deltas(build.folder / "root", method="normal")  # type: ignore[arg-type]  # the refused input


class TestFamilies:
    """Holm's correction covers exactly the cells that a study declared."""

    def test_cells_of_other_studies_do_not_join(self, build: Build) -> None:
        other = recipe_digest(Recipe(learning_rate=0.5))
        trials = [
            *sizes(build, 100, 200, 400),
            *sizes(build, 100, dataset="mnist"),
            *sizes(build, 100, recipe=other),
            *(build.trial(s, i, {1: 1.0, 2: v + i}) for s, v in (("natural", 50), ("robust", 52)) for i in range(3)),
        ]
        root = build.root(trials)
        declare(root, CONTRAST, images=(100, 200))
        found = [row for row in rows(analysis.deltas(root)) if row["p_holm"] is not None]
        assert [(row["dataset"], row["images"], row["recipe"]) for row in found] == [
            ("digits", images, recipe_digest(Recipe())) for images in (100, 200)
        ]
        assert [row["p_holm"] for row in found] == pytest.approx([2 * P] * 2)
        assert all(row["method"].endswith("Holm over 2 cells of the contrasts of mine") for row in found)

    def test_trials_of_older_numerics_are_a_family_of_their_own(self, build: Build) -> None:
        """The study planned its cells once: results from before a change of numerics do not weaken today's."""
        root = build.root([*sizes(build, 100, 200), *sizes(build, 100, 200, 400, numerics=2, evaluate_every=1)])
        declare(root, CONTRAST, images=(100, 200, 400))
        found = sorted((row["numerics"], row["images"], row["p_holm"]) for row in rows(analysis.deltas(root)))
        assert found == [(1, n, pytest.approx(2 * P)) for n in (100, 200)] + [
            (2, n, pytest.approx(3 * P)) for n in (100, 200, 400)
        ]

    def test_a_size_equal_to_the_whole_set_is_in_the_family(self, build: Build) -> None:
        root = build.root(sizes(build, -1))
        declare(root, CONTRAST, images=(PACKAGED.datasets["digits"].train,))
        assert rows(analysis.deltas(root))[0]["method"].endswith("Holm over 1 cell of the contrasts of mine")

    def test_narrowing_the_question_keeps_the_family(self, build: Build) -> None:
        root = build.root(sizes(build, 100, 200, 400))
        declare(root, CONTRAST, images=(100, 200, 400))
        for question in ({"images": 100}, {"images": 100, "source": "robust"}, {"images": 100, "epoch": 1}):
            (row,) = rows(analysis.deltas(root, **question))
            assert row["p_holm"] == pytest.approx(3 * P)
            assert row["method"].endswith("Holm over 3 cells of the contrasts of mine")

    def test_a_contrast_counts_at_its_own_epoch(self, build: Build) -> None:
        curve = {1: 20.0, 21: 40.0, 30: 45.0}
        trials = [
            build.trial(source, seed, {epoch: value + arm[seed] for epoch, value in curve.items()}, images=images)
            for source, arm in (("natural", NATURAL), ("robust", ROBUST))
            for images in (100, 200)
            for seed in range(5)
        ]
        root = build.root(trials)
        declare(root, CONTRAST | {"epoch": 21}, images=(100,), epochs=30)
        found = rows(analysis.deltas(root))
        assert [(row["images"], row["epoch"], row["p_holm"]) for row in found] == [
            (100, 21, pytest.approx(P)),
            (100, 30, None),
            (200, 30, None),
        ]
        assert [row["epoch"] for row in rows(analysis.deltas(root, epoch="last"))] == [30, 30]
        assert [row["p_holm"] for row in rows(analysis.deltas(root, epoch=21))] == [pytest.approx(P), None]
        one, *_ = rows(analysis.deltas(root, images=100))
        assert (one["ci_low"], one["ci_high"]) == (one["ci_low_simultaneous"], one["ci_high_simultaneous"])

    def test_each_study_is_its_own_family(self, build: Build) -> None:
        root = build.root(sizes(build, 100, 200, 400))
        declare(root, CONTRAST, name="a", images=(100, 200, 400))
        declare(root, CONTRAST, name="b", images=(100,))
        found = rows(analysis.deltas(root))
        assert [row["p_holm"] for row in found] == pytest.approx([3 * P] * 3)
        assert found[0]["method"].endswith("of the contrasts of a")
        assert [row["p_holm"] for row in rows(analysis.deltas(root, study="b"))] == [pytest.approx(P)]

    def test_a_study_narrows_to_its_own_cells(self, build: Build) -> None:
        imported = {"origin": "imported", "recipe": "imported", "numerics": None}
        trials = [
            *sizes(build, 100, 200, 400),
            *sizes(build, 100, dataset="mnist"),
            *sizes(build, 100, blocks=9),
            *sizes(build, 100, **imported),
            *build.arms([], ROBUST, source="stranger"),
        ]
        root = build.root(trials)
        declare(root, CONTRAST, images=(100, 200))
        every = {(row["source"], row["images"]): row for row in rows(analysis.deltas(root, dataset="digits", blocks=3))}
        found = rows(analysis.deltas(root, study="mine"))
        assert [(row["source"], row["images"], row["p_holm"]) for row in found] == [
            ("robust", images, pytest.approx(2 * P)) for images in (100, 200)
        ]
        for row in found:
            same = ("n_pairs", "mean_delta", "ci_low", "ci_high", "p_value", "p_holm")
            assert [row[name] for name in same] == [every["robust", row["images"]][name] for name in same]
        declare(root, CONTRAST, name="unrun", images=(1600,))
        root = root.rename(root.with_name("my results"))
        command = f"run {shlex.join(['deltasweep', 'resume', '--study', 'unrun', '--results', str(root)])}"
        with refused(Code.NO_ANSWER, command, kind=InvalidRequest, file=root, key="--study"):
            analysis.deltas(root, study="unrun")

    def test_the_newest_launched_version_counts(self, build: Build) -> None:
        root = build.root([*sizes(build, 100, 200), *sizes(build, 100, blocks=1)])
        declare(root, CONTRAST, digest="d1", images=(100, 200))
        declare(root, CONTRAST | {"blocks": [1]}, digest="d2", images=(100,))
        declare(root, CONTRAST, digest="d3", images=(200,))

        def family() -> list[tuple[int, int]]:
            return [(row["blocks"], row["images"]) for row in rows(analysis.deltas(root)) if row["p_holm"] is not None]

        assert family() == [(1, 100), (3, 100), (3, 200)]
        launch(root, "20260101-000000-aa", "d1")
        launch(root, "20260102-000000-aa", "d2")
        launch(root, "20260103-000000-aa", "d1", study="other")
        assert family() == [(1, 100)]
        launch(root, "20260104-000000-aa", "d1")
        assert family() == [(3, 100), (3, 200)]

    def test_a_family_without_results_is_empty(self, build: Build) -> None:
        root = build.root(sizes(build, 100))
        declare(root, CONTRAST | {"epoch": 7}, images=(1600,))
        assert [row["p_holm"] for row in rows(analysis.deltas(root))] == [None]

    def test_a_cell_that_two_versions_plan_counts_once(self, build: Build) -> None:
        root = build.root(sizes(build, 100, 200))
        declare(root, CONTRAST, digest="d1", images=(100, 200))
        declare(root, CONTRAST, CONTRAST | {"blocks": [1, 3]}, digest="d2", images=(100,))
        found = rows(analysis.deltas(root))
        assert [row["p_holm"] for row in found] == pytest.approx([2 * P] * 2)
        assert all(row["method"].endswith("Holm over 2 cells of the contrasts of mine") for row in found)

    def test_imported_trials_of_a_planned_recipe_are_not_of_the_family(self, build: Build) -> None:
        root = build.root([*sizes(build, 100), *sizes(build, 100, origin="imported")])
        declare(root, CONTRAST)
        found = {row["origin"]: row for row in rows(analysis.deltas(root))}
        assert found["run"]["method"].endswith("Holm over 1 cell of the contrasts of mine")
        assert found["imported"]["method"].endswith("Holm over 1 imported cell asked for")

    def test_imported_trials_alone_beside_a_declared_family(self, build: Build) -> None:
        root = build.root(sizes(build, 100, origin="imported", recipe="imported", numerics=None))
        declare(root, CONTRAST)
        (row,) = rows(analysis.deltas(root))
        assert row["method"].endswith("Holm over 1 imported cell asked for")
