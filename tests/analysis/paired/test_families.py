"""Sets of contrasts that are corrected separately, comparisons of two depths, and what neither of them changes."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy import stats

import analysis
from analysis.evaluations.reading import open_results
from analysis.figures.drawing.style import COLOURS, MARKERS, Look
from analysis.output import formats
from analysis.page.forest import forest
from analysis.page.sections.headlines import headline_cells, headline_rows, headlines
from analysis.page.sections.what_was_run import progress
from analysis.paired.contrasts import declared_in
from jobs.errors import Code
from jobs.results import LocalStore, record_study, recorded_studies
from tests.analysis.support import Build, Rows
from tests.support import refused

SOURCES = {"natural": "none", "l2": "l2", "linf": "linf"}
FIRST: list[dict[str, Any]] = [{"source": "l2", "baseline": "natural", "blocks": [3]}]
SPEED: dict[str, Any] = {"source": "l2", "baseline": "natural", "blocks": [3], "epoch": 11, "family": "speed"}
NORMS: dict[str, Any] = {"source": "l2", "baseline": "linf", "blocks": [3], "family": "norms"}
DEPTH: dict[str, Any] = {"source": "l2", "baseline": "l2", "blocks": [3], "baseline_blocks": 1, "family": "depth"}
MORE = [SPEED, SPEED | {"epoch": 21}, NORMS, DEPTH]

Declare = Callable[..., Path]


def trials(build: Build, **columns: Any) -> Iterator[Rows]:
    """Yield five seeds of three sources at two depths and two sizes, each evaluated after 1, 11, 21 and 30 epochs."""
    for blocks in (1, 3):
        for images in (100, 200):
            for number, (source, constraint) in enumerate(SOURCES.items()):
                for seed in range(5):
                    gain = number * 2.0 + blocks * 0.7 * number + (seed * seed * (number + 1 + blocks)) % 7
                    curve = {epoch: 30.0 + epoch / 2 + gain for epoch in (1, 11, 21, 30)}
                    shared = {"constraint": constraint, "blocks": blocks, "images": images, "evaluate_every": 10}
                    yield build.trial(source, seed, curve, **{**shared, **columns})


@pytest.fixture
def declare(build: Build) -> Declare:
    """Return a function that makes a root with all trials, in which a study declared some contrasts."""

    def made(*contrasts: dict[str, Any], name: str = "mine", every: int = 10, where: str = "root") -> Path:
        root = build.root(trials(build), where)
        grid = {"source": [*SOURCES], "dataset": ["digits"], "blocks": [1, 3]}
        rows = [{"images": [100, 200], "epochs": 30, "seeds": 5, "evaluate_every": every}]
        study = {"name": name, "contrasts": list(contrasts), "grid": grid, "schedule": rows, "recipe": {}}
        record_study(LocalStore(root), name, "d1", json.dumps(study))
        return root

    return made


def frame(root: Path, **question: Any) -> pd.DataFrame:
    found: pd.DataFrame = analysis.deltas(root, **question).to_pandas()
    return found


def family(rows: pd.DataFrame) -> list[str]:
    return sorted(set(rows["method"].str.extract(r"Holm over (.*)")[0].dropna()))


def test_more_sets_move_no_corrected_p_value_declared_before(declare: Declare) -> None:
    alone, beside = frame(declare(*FIRST, where="a")), frame(declare(*FIRST, *MORE, where="b"))
    keys = [name for name in alone.columns if name not in ("n_pairs", "n_unpaired") and alone[name].dtype != float]
    both = alone.merge(beside, on=keys, suffixes=("", "_beside"))
    assert len(both) == len(alone) == 8
    assert (alone["baseline_blocks"] == alone["blocks"]).all()
    for name in set(alone.columns) - set(keys):
        pd.testing.assert_series_equal(both[name], both[f"{name}_beside"], check_names=False)


def test_each_set_is_a_family_of_its_own(declare: Declare) -> None:
    found = frame(declare(*FIRST, *MORE))
    corrected = found[found["p_holm"].notna()]
    named = [f"2 cells of the contrasts of mine ({name})" for name in ("depth", "norms")]
    assert family(corrected) == sorted(
        ["2 cells of the contrasts of mine", "4 cells of the contrasts of mine (speed)", *named]
    )
    assert len(corrected) == 10
    for words, rows in corrected.groupby("method"):
        p = sorted(rows["p_value"])
        least = [p[0] * len(p)]
        for rank, value in enumerate(p[1:], start=1):
            least.append(max(least[-1], value * (len(p) - rank)))
        assert sorted(rows["p_holm"]) == pytest.approx([min(value, 1.0) for value in least]), words


def test_a_depth_is_paired_with_the_other_seed_by_seed(declare: Declare, build: Build) -> None:
    root = declare(DEPTH)
    data = build.table(trials(build)).to_pandas()
    last = data[(data["source"] == "l2") & (data["epoch"] == 30) & (data["images"] == 100)]
    three, one = (last[last["blocks"] == blocks].sort_values("seed")["test_accuracy"].to_numpy() for blocks in (3, 1))
    oracle = stats.ttest_rel(three, one)
    interval = oracle.confidence_interval(0.95)
    found = frame(root, images=100)
    (row,) = found[found["source"] == found["baseline"]].to_dict("records")
    assert (row["blocks"], row["baseline_blocks"], row["n_pairs"], row["n_unpaired"]) == (3, 1, 5, 0)
    assert (row["mean_delta"], row["p_value"]) == pytest.approx((float((three - one).mean()), oracle.pvalue))
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((interval.low, interval.high))
    assert row["method"].endswith("Holm over 2 cells of the contrasts of mine (depth)")


@pytest.mark.parametrize(
    ("question", "rows"),
    [
        ({}, 2),
        ({"blocks": 3}, 2),
        ({"blocks": 1}, 0),
        ({"source": "l2"}, 2),
        ({"source": "linf"}, 0),
        ({"images": 200}, 1),
        ({"epoch": 11}, 2),
        ({"epoch": "all"}, 8),
        ({"study": "mine"}, 2),
        ({"baseline": "l2"}, 2),
        ({"baseline": "natural"}, 0),
        ({"blocks": [1, 3], "epoch": "last"}, 2),
    ],
)
def test_narrowing_changes_no_comparison_of_depths(declare: Declare, question: dict[str, Any], rows: int) -> None:
    root = declare(*FIRST, DEPTH)
    keys = ["source", "baseline", "blocks", "baseline_blocks", "images", "epoch"]
    whole = frame(root, epoch="all").set_index(keys)
    found = frame(root, **question).set_index(keys)
    deep = found[found.index.get_level_values("source") == found.index.get_level_values("baseline")]
    assert len(deep) == rows
    same = ["n_pairs", "mean_delta", "ci_low", "ci_high", "p_value", "p_holm", "method"]
    pd.testing.assert_frame_equal(deep[same], whole.loc[deep.index, same])


def test_a_set_compares_its_own_sources_and_no_others_with_their_baseline(declare: Declare) -> None:
    found = frame(declare(*FIRST, NORMS, DEPTH))
    assert {(row["source"], row["baseline"]) for row in found.to_dict("records")} == {
        ("l2", "natural"),
        ("linf", "natural"),
        ("l2", "linf"),
        ("l2", "l2"),
    }


def test_sets_need_no_contrasts_beside_them(declare: Declare, build: Build) -> None:
    found = frame(declare(DEPTH))
    assert {(row["source"], row["baseline"]) for row in found.to_dict("records")} == {
        ("l2", "natural"),  # the only source without a constraint
        ("linf", "natural"),
        ("l2", "l2"),
    }
    one = build.root([rows for rows in trials(build) if rows[0]["source"] == "l2"], "one")
    for text in (record.text for record in recorded_studies(LocalStore(build.folder / "root"))):
        record_study(LocalStore(one), "mine", "d1", text)
    assert set(frame(one)["baseline_blocks"]) == {1}
    with refused(Code.NO_ANSWER, "--baseline", key="--baseline"):
        frame(one, blocks=1)


def test_a_cell_of_two_families_of_a_study_is_of_the_first(declare: Declare) -> None:
    """A study file refuses this, but the record of a study from before that check may contain it."""
    alone = frame(declare(*FIRST, where="a"))
    wide = {"source": "l2", "baseline": "natural", "blocks": [1, 3], "family": "wide"}
    for number, contrasts in enumerate(([*FIRST, wide], [wide, *FIRST])):
        found = frame(declare(*contrasts, where=f"b{number}"))
        of_first = found["method"].str.endswith("of the contrasts of mine")
        pd.testing.assert_series_equal(
            found.loc[of_first, "p_holm"].reset_index(drop=True),
            alone.loc[alone["p_holm"].notna(), "p_holm"].reset_index(drop=True),
        )


def test_a_family_at_an_epoch_is_of_what_its_study_evaluates(declare: Declare) -> None:
    """Other studies may evaluate the same training more often, which adds no cells to the declared ones."""
    root = declare(SPEED, SPEED | {"epoch": 21}, every=20)
    assert family(frame(root)) == ["2 cells of the contrasts of mine (speed)"]
    assert set(frame(root, epoch=11)["p_holm"].notna()) == {False}


def test_imported_trials_of_a_set_are_corrected_by_themselves(build: Build, declare: Declare) -> None:
    imported = list(trials(build, origin="imported", recipe="imported", numerics=None))
    for rows in imported:
        for row in rows:
            row["trial_id"] = row["trial_id"].replace("finetune-", "imported-")
    alone, beside = declare(*FIRST, where="a"), declare(*FIRST, NORMS, DEPTH, where="b")
    for name in ("a", "b"):
        build.root(imported, name)
    before, after = (frame(root, origin="imported") for root in (alone, beside))
    assert family(before) == ["8 imported cells asked for"]
    assert family(after) == [
        "2 imported cells asked for (depth)",
        "4 imported cells asked for (norms)",
        "8 imported cells asked for",
    ]
    shared = after[after["method"].str.endswith("8 imported cells asked for")]
    pd.testing.assert_frame_equal(shared.reset_index(drop=True), before)


def test_bootstrap_intervals_are_those_of_before_the_column(build: Build) -> None:
    """The seed comes from the cell's name, which omits an equal depth of the baseline.

    The expected values were measured with version 0.2.0.
    """
    natural = [50.0 + (i * i * 37 % 101) / 17 for i in range(9)]
    robust = [52.0 + (i * i * 53 % 103) / 13 for i in range(9)]
    (row,) = frame(build.root(build.arms(natural, robust)), method="paper-compatible").to_dict("records")
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((0.8123805932629464, 5.206221719457014), abs=1e-12)


def test_depths_have_bootstrap_intervals_too(declare: Declare) -> None:
    found = frame(declare(*FIRST, DEPTH, DEPTH | {"blocks": [1], "baseline_blocks": 3}), method="paper-compatible")
    deep = found[found["source"] == found["baseline"]]
    assert (deep["ci_low"] < deep["mean_delta"]).all()
    assert len(deep) == 4


def test_the_table_tells_the_other_depth_where_there_is_one(declare: Declare) -> None:
    plain, deep = declare(*FIRST, where="a"), declare(*FIRST, DEPTH, where="b")
    assert "baseline_blocks" not in formats.text(analysis.deltas(plain), "table")
    assert "baseline_blocks" not in formats.text(analysis.deltas(deep, blocks=1), "table")
    header = next(
        line for line in formats.text(analysis.deltas(deep, images=100), "table").splitlines() if "delta " in line
    )
    assert header.split()[:4] == ["source", "baseline", "blocks", "baseline_blocks"]


def test_headlines_say_depths_and_families(declare: Declare) -> None:
    from analysis.evaluations.frames import frame as evaluations
    from analysis.paired.contrasts import between_depths, comparisons
    from analysis.paired.table import delta_cells

    store = open_results(declare(*FIRST, *MORE))
    data, known = evaluations(analysis.load(store.uri)), declared_in(store)
    chosen = [*comparisons(data, None, known), *between_depths(data, None, known)]
    cells = delta_cells(data, chosen, known, epoch=None)
    shown = headline_cells(cells.assign(variant="own trials"), known)
    said = {f"{one.what}; {one.where}": one.sentence for one in headlines(shown, known)}
    deep = said["l2: last 3 blocks minus last block; last epoch, declared in advance"]
    assert "after Holm correction over 2 cells of the contrasts of mine (depth)" in deep
    fast = said["l2 minus natural; last 3 blocks, epoch 11, declared in advance"]
    assert "over 4 cells of the contrasts of mine (speed)" in fast
    assert (
        "over 2 cells of the contrasts of mine, "
        in said["l2 minus natural; last 3 blocks, last epoch, declared in advance"]
    )
    assert [row[2] for row in headline_rows(shown) if row[0] == row[1]] == ["3 minus 1"] * 2


def test_a_forest_plot_says_of_which_length_a_cell_is_where_a_size_has_several(build: Build) -> None:
    from analysis.evaluations.frames import frame as evaluations
    from analysis.evaluations.lengths import length_of
    from analysis.page.results import with_variant
    from analysis.paired.contrasts import Comparison, Declared
    from analysis.paired.table import delta_cells

    lengths = [(100, 10), (100, 30), (200, 30), (400, 10)]
    made = [
        build.trial(source, seed, {1: 10.0, last: 40.0 + gain * last + seed}, images=images, dataset=dataset)
        for dataset, of in (("digits", lengths), ("mnist", lengths[1:3]))
        for images, last in of
        for source, gain in (("natural", 0.0), ("l2", 0.1 + 0.01 * images / 100))
        for seed in range(3)
    ]
    data = with_variant(evaluations(build.table(made)), {})
    cells = delta_cells(data, [Comparison("l2", "natural")], Declared(())).drop(columns="length")
    shown = headlines(headline_cells(length_of(cells, data, "variant"), Declared(())), Declared(()))
    groups = forest([(one.what, one.where, Look(COLOURS[0], MARKERS[0]), one.cells) for one in shown]).groups
    main, other = ({(row.dataset, row.size): round(row.mean, 2) for row in group.rows} for group in groups)
    assert main == {
        ("mnist", "100 (30 epochs)"): 3.3,
        ("mnist", "200 (30 epochs)"): 3.6,
        ("digits", "100 (30 epochs)"): 3.3,
        ("digits", "200 (30 epochs)"): 3.6,
        ("digits", "400 (10 epochs)"): 1.4,
    }
    assert other == {("digits", "100"): 1.1}
    assert [group.what for group in groups] == [
        "l2 minus natural (own trials, 10 or 30 epochs)",
        "l2 minus natural (own trials, 10 epochs)",
    ]


def test_what_is_compared_is_told_with_depths(declare: Declare) -> None:
    with refused(Code.NO_ANSWER, "l2 minus natural, linf minus natural, l2 at blocks 3 minus 1. ", key="source"):
        frame(declare(*FIRST, DEPTH), source="natural")


def test_the_report_lists_what_was_declared(declare: Declare) -> None:
    (record,) = recorded_studies(LocalStore(declare(*FIRST, SPEED, DEPTH, FIRST[0] | {"blocks": [-1]})))
    assert progress(record, []).contrasts == (
        "l2 minus natural, last 3 blocks, last epoch",
        "l2 minus natural, last 3 blocks, epoch 11, family speed",
        "l2: last 3 blocks minus last block, last epoch, family depth",
        "l2 minus natural, all blocks, last epoch",
    )
