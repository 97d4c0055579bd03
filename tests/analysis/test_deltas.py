"""The deltas of a results root."""

import json
import random

import numpy as np
import pytest
from scipy import stats

import analysis
from analysis.delta_schema import DELTAS
from jobs.errors import DamagedFile, InvalidRequest
from jobs.results import LocalStore, record_study

NATURAL, ROBUST = [50.0, 52.0, 51.0, 49.5, 50.5], [54.0, 57.5, 54.0, 55.0, 53.0]


def rows(table):
    return table.to_pylist()


def declare(root, *contrasts, name="mine"):
    record_study(LocalStore(root), name, "d1", json.dumps({"name": name, "contrasts": list(contrasts)}))


def test_columns_and_numbers(build):
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
    assert row["method"] == "paired t 95%; Holm over 1 cells asked for"


def test_bands_are_bonferroni_over_the_sizes_of_a_curve(build):
    trials = [rows for images in (100, 200, 400, -1) for rows in build.arms(NATURAL, ROBUST, images=images)]
    first = rows(analysis.deltas(build.root(trials)))[0]
    interval = stats.ttest_rel(ROBUST, NATURAL).confidence_interval(1 - 0.05 / 4)
    assert (first["ci_low_simultaneous"], first["ci_high_simultaneous"]) == pytest.approx(interval, abs=1e-9)


def test_whole_set_comes_after_all_sizes(build):
    trials = [rows for images in (-1, 400, 100) for rows in build.arms(NATURAL, ROBUST, images=images)]
    assert [row["images"] for row in rows(analysis.deltas(build.root(trials)))] == [100, 400, -1]


def test_order_of_files_rows_and_seeds_changes_nothing(build):
    trials = [rows for images in (100, 200) for rows in build.arms(NATURAL, ROBUST, images=images)]
    shuffled = [random.Random(1).sample(rows, len(rows)) for rows in random.Random(2).sample(trials, len(trials))]
    assert analysis.deltas(build.root(trials)).equals(analysis.deltas(build.root(shuffled, "other")))


def test_a_missing_seed_changes_its_own_cell_only(build):
    trials = [rows for images in (100, 200) for rows in build.arms(NATURAL, ROBUST, images=images)]
    whole = rows(analysis.deltas(build.root(trials)))
    without = rows(analysis.deltas(build.root(trials[:-1], "other")))
    own = ("mean_delta", "ci_low", "ci_high", "p_value", "n_pairs", "n_unpaired")
    assert [whole[0][name] for name in own] == [without[0][name] for name in own]
    assert (without[1]["n_pairs"], without[1]["n_unpaired"]) == (4, 1)


@pytest.mark.parametrize(("seeds", "words"), [(1, "one pair: no interval"), (2, "few pairs"), (4, "few pairs")])
def test_few_pairs_say_so(build, seeds, words):
    (row,) = rows(analysis.deltas(build.root(build.arms(NATURAL[:seeds], ROBUST[:seeds]))))
    assert words in row["method"]
    assert (row["ci_low"] is None) == (seeds == 1)


def test_a_cell_of_one_arm_is_a_row_without_pairs(build):
    trials = [*build.arms(NATURAL, ROBUST), build.trial("robust", 0, 60.0, images=200)]
    row = rows(analysis.deltas(build.root(trials)))[1]
    assert (row["images"], row["n_pairs"], row["n_unpaired"], row["mean_delta"]) == (200, 0, 1, None)
    assert row["method"] == "no pairs"


def test_contrasts_choose_the_baseline_and_the_family(build):
    trials = [
        *build.arms(NATURAL, ROBUST),
        *build.arms([], [value + 1 for value in ROBUST], source="stronger"),
        *build.arms(NATURAL, ROBUST, blocks=1),
    ]
    root = build.root(trials)
    declare(root, {"source": "stronger", "baseline": "robust", "blocks": [3]})
    found = {(row["source"], row["baseline"], row["blocks"]): row for row in rows(analysis.deltas(root))}
    assert {baseline for _, baseline, _ in found} == {"robust"}
    assert found["stronger", "robust", 3]["method"].endswith("Holm over 1 cells of the contrasts of mine")
    assert found["natural", "robust", 1]["p_holm"] is None


def test_the_declared_direction_wins(build):
    root = build.root([*build.arms(NATURAL, ROBUST)])
    declare(
        root,
        {"source": "robust", "baseline": "natural", "blocks": [3]},
        {"source": "other", "baseline": "robust", "blocks": [3]},
    )
    assert [(row["source"], row["baseline"]) for row in rows(analysis.deltas(root))] == [("robust", "natural")]


def test_epochs(build):
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
    with pytest.raises(InvalidRequest, match="nothing was evaluated after epoch 7; evaluated epochs: 1, 21, 30"):
        analysis.deltas(root, epoch=7)


def test_choices_narrow_the_question(build):
    trials = [rows for blocks in (1, 3) for rows in build.arms(NATURAL, ROBUST, blocks=blocks)]
    root = build.root(trials)
    assert [row["blocks"] for row in rows(analysis.deltas(root, blocks=1))] == [1]
    with pytest.raises(InvalidRequest, match="no evaluation has the blocks 9; there are: 1, 3"):
        analysis.deltas(root, blocks=[1, 9])


def test_wrong_requests(build):
    root = build.root(build.arms(NATURAL, ROBUST))
    with pytest.raises(InvalidRequest, match="'nobody' is not among: natural, robust"):
        analysis.deltas(root, baseline="nobody")
    with pytest.raises(InvalidRequest, match="has seen no study 'other'"):
        analysis.deltas(root, study="other")
    with pytest.raises(InvalidRequest, match="between 0 and 1"):
        analysis.deltas(root, confidence=95)
    with pytest.raises(InvalidRequest, match="holds no finished trial yet"):
        analysis.deltas(build.root([], "empty"))
    with pytest.raises(InvalidRequest, match="there is no directory"):
        analysis.deltas(root / "nowhere")


def test_no_obvious_baseline(build):
    two = build.root([build.trial("natural", 0, 50.0), build.trial("also", 0, 50.0, constraint="none")])
    with pytest.raises(InvalidRequest, match=r"2 are \(also, natural\).*--baseline, of: also, natural"):
        analysis.deltas(two)
    alone = build.root([build.trial("natural", 0, 50.0)], "alone")
    with pytest.raises(InvalidRequest, match="a delta needs two sources; the results are of natural only"):
        analysis.deltas(alone)


def test_a_damaged_file_is_named(build):
    root = build.root(build.arms(NATURAL, ROBUST))
    damaged = next(root.glob("trials/finetune/*/*.parquet"))
    damaged.write_bytes(b"PAR1")
    with pytest.raises(DamagedFile, match=damaged.name):
        analysis.deltas(root)


def test_paper_compatible_is_the_seeded_percentile_bootstrap(build):
    trials = [rows for images in (100, 200) for rows in build.arms(NATURAL, ROBUST, images=images)]
    both = rows(analysis.deltas(build.root(trials), method="paper-compatible"))
    alone = rows(analysis.deltas(build.root(trials[:10], "alone"), method="paper-compatible"))
    assert (both[0]["ci_low"], both[0]["ci_high"]) == (alone[0]["ci_low"], alone[0]["ci_high"])
    paired_t = rows(analysis.deltas(build.folder / "root"))[0]
    assert paired_t["ci_low"] < both[0]["ci_low"] < both[0]["mean_delta"] < both[0]["ci_high"] < paired_t["ci_high"]
    assert both[0]["ci_low_simultaneous"] is None
    assert "percentile bootstrap" in both[0]["method"]
    with pytest.raises(InvalidRequest, match="one of paired-t, paper-compatible"):
        analysis.deltas(build.folder / "root", method="normal")
