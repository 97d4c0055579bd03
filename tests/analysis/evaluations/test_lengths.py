"""Trials of one cell that were trained for different numbers of epochs: apart everywhere, and named by their length."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import analysis
import deltasweep as ds
from analysis.evaluations.frames import frame
from analysis.evaluations.lengths import PLANNED, apart, apart_remark, lengths_text, with_lengths
from analysis.figures.paper import figure
from analysis.page.payload import payload
from analysis.page.report import contents
from analysis.page.results import read, variants, with_variant
from analysis.paired.contrasts import Comparison, planned_lengths
from analysis.tables.accuracy import table7
from jobs.errors import Code
from jobs.results import Launch, LocalStore, StudyRecord, record_study, write_launch
from jobs.specs.recipes import Recipe
from jobs.specs.trial import recipe_digest
from tests.analysis.support import Build, Rows
from tests.support import refused

CONTRAST: dict[str, Any] = {"source": "l2", "baseline": "natural", "blocks": [3]}
SHORT, LONG = {50: 10, 200: 10, 800: 10}, {50: 30, 200: 30, 800: 10}
"""Epochs by images; both schedules have the same trials of 800 images."""


def trials(build: Build, schedule: dict[int, int], seeds: int = 3, gain: float = 1.0, **columns: Any) -> list[Rows]:
    """Return trials of two sources; the robust one is better by ``gain`` and some noise."""
    return [
        build.trial(source, seed, {1: 20.0, epochs: 50.0 + better}, images=images, **{"evaluate_every": 30, **columns})
        for images, epochs in schedule.items()
        for seed in range(seeds)
        for source, better in (("natural", 0.0), ("l2", gain + 0.1 * seed))
    ]


def both(build: Build) -> list[Rows]:
    """Return the trials of both schedules; those of ten epochs are worse, those of thirty better than the baseline."""
    return [*trials(build, SHORT, gain=-5.0), *trials(build, {50: 30, 200: 30}, gain=5.0)]


def study(
    root: Path, name: str, digest: str, schedule: dict[int, int], at: str, blocks: int = 3, sources: Sequence[str] = ()
) -> None:
    """Record a study of two sources (or others) and its launch."""
    rows = [{"images": [size], "epochs": last, "seeds": 3, "evaluate_every": 30} for size, last in schedule.items()]
    grid = {"source": [*(sources or ("natural", "l2"))], "dataset": ["digits"], "blocks": [blocks]}
    declared = [] if sources else [{**CONTRAST, "blocks": [blocks]}]
    text = {"name": name, "grid": grid, "schedule": rows, "recipe": {}, "contrasts": declared}
    record_study(LocalStore(root), name, digest, json.dumps(text))
    write_launch(LocalStore(root), Launch(at, name, digest, "me", "here", at, "1", {}, at, (), at))


def headline(root: Path) -> dict[str, str]:
    """Return the sentences of the report by what they are about."""
    shown = next(one for one in contents(read(LocalStore(root))) if one.title == "Headline deltas")
    return {one.what: one.sentence for of in shown.values["findings"] for one in of.headlines}


def planning(*schedules: dict[int, int]) -> pd.DataFrame:
    """Return what studies plan; later ones were launched later."""
    recipe = recipe_digest(Recipe())
    planned = {
        (source, "digits", 3, images, recipe, last): place
        for place, schedule in enumerate(schedules)
        for images, last in schedule.items()
        for source in ("natural", "l2")
    }
    return pd.DataFrame([*planned], columns=list(PLANNED)).assign(launched=[*planned.values()])


def words(data: pd.DataFrame) -> dict[tuple[int, int], str]:
    """Return the length in words by images and epochs."""
    columns = (data.loc[data["origin"] != "imported", name] for name in ("images", "epochs", "length"))
    return {(images, epochs): length for images, epochs, length in zip(*columns, strict=True)}


def test_a_schedule_with_several_lengths_has_no_cell_of_several(build: Build) -> None:
    def never() -> pd.DataFrame:
        raise AssertionError("the studies were read")

    data = frame(build.table(trials(build, LONG)), never)
    assert set(data["length"]) == {""}


def test_without_a_study_the_main_length_of_a_cell_is_that_of_most_trials(build: Build) -> None:
    few = trials(build, {50: 30, 200: 30}, seeds=2)
    assert words(frame(build.table([*trials(build, SHORT), *few]))) == {
        (50, 10): "10 epochs",
        (200, 10): "10 epochs",
        (800, 10): "10 epochs",
        (50, 30): "30 epochs",
        (200, 30): "30 epochs",
    }
    longest = words(frame(build.table(both(build))))
    assert longest == {
        (50, 10): "10 epochs",
        (200, 10): "10 epochs",
        (800, 10): "10 or 30 epochs",
        (50, 30): "10 or 30 epochs",
        (200, 30): "10 or 30 epochs",
    }


def test_what_the_newest_study_plans_is_the_main_length_of_the_cells_that_have_trials_of_it(build: Build) -> None:
    data = frame(build.table(both(build)))
    short = words(with_lengths(data, lambda: planning(LONG, SHORT)))
    assert short[50, 10] == short[800, 10] == "10 epochs"
    long = words(with_lengths(data, lambda: planning(SHORT, LONG)))
    assert long[50, 30] == long[800, 10] == "10 or 30 epochs"
    kept = data[~((data["images"] == 200) & (data["epochs"] == 30))]  # not begun
    found = words(with_lengths(kept, lambda: planning(SHORT, LONG)))
    assert found[50, 10] == "10 epochs"
    assert {length for cell, length in found.items() if cell != (50, 10)} == {"10 or 30 epochs"}


NEITHER = {50: 50, 200: 50, 800: 50}
"""A schedule without a trial."""


def test_lengths_without_a_trial_are_no_main_lengths(build: Build) -> None:
    """The last study with trials of its length decides; if there is none, most trials do."""
    data = frame(build.table([*both(build), *trials(build, {50: 10}, seeds=2, numerics=2)]))
    found = words(with_lengths(data, lambda: planning(NEITHER)))
    assert found[50, 30] == found[800, 10] == "10 or 30 epochs"
    assert words(with_lengths(data, lambda: planning(SHORT, NEITHER)))[800, 10] == "10 epochs"


def test_a_schedule_of_which_nothing_has_finished_is_no_obstacle(build: Build) -> None:
    root = build.root(both(build))
    before = analysis.deltas(root).to_pandas()
    study(root, "mine", "d1", NEITHER, "2026-01-01T00:00:00+00:00")
    ends = ["images", "epochs", "ci_low_simultaneous", "ci_high_simultaneous"]
    assert analysis.deltas(root).to_pandas()[ends].equals(before[ends])
    assert list(headline(root))[:2] == [
        "l2 minus natural (own trials, 10 or 30 epochs)",
        "l2 minus natural (own trials, 10 epochs)",
    ]
    assert "50 (30 epochs)" in analysis.report(root).read_text()


def test_other_depths_and_sources_have_lengths_of_their_own(build: Build) -> None:
    """Nothing is apart where no source has two lengths in a cell: bands are as wide as in a root of one study."""
    long, short, other = {50: 30, 800: 10}, {50: 10}, {50: 20, 800: 20}
    deep, flat = trials(build, long), trials(build, short, blocks=1)
    random = [build.trial("random_init", 0, {20: 9.0 + 1}, images=size, evaluate_every=30) for size in other]
    root = build.root([*deep, *flat, *random], "mixed")
    study(root, "deep", "d1", long, "2026-01-01T00:00:00+00:00")
    study(root, "random", "d1", other, "2026-01-02T00:00:00+00:00", sources=["random_init"])
    study(root, "flat", "d1", short, "2026-01-03T00:00:00+00:00", blocks=1)
    assert set(read(LocalStore(root)).data["length"]) == {""}
    assert list(headline(root)) == ["l2 minus natural", "random_init minus natural"]
    ends = ["blocks", "images", "epochs", "ci_low_simultaneous", "ci_high_simultaneous"]
    found = analysis.deltas(root, source="l2").to_pandas()
    for blocks, alone in ((3, build.root(deep, "deep")), (1, build.root(flat, "flat"))):
        wanted = analysis.deltas(alone).to_pandas()[ends]
        for table in (found, analysis.deltas(root).to_pandas().query("source == 'l2' and n_pairs > 0")):
            assert table[table["blocks"] == blocks][ends].reset_index(drop=True).equals(wanted)


def test_what_has_no_other_length_is_not_apart_beside_what_has(build: Build) -> None:
    """Names are those of the whole setting, but only cells with several lengths are split."""
    mixed = trials(build, {50: 10, 800: 10, 3200: 30}, blocks=1)
    random = [build.trial("random_init", 0, {20: 10.0}, images=size, evaluate_every=30) for size in (50, 200, 800)]
    data = frame(build.table([*both(build), *mixed, *random]), lambda: planning(SHORT, LONG))
    assert set(data.loc[data["blocks"] == 1, "length"]) == {"10, 20 or 30 epochs"}
    assert set(data.loc[data["source"] == "random_init", "length"]) == {"10, 20 or 30 epochs"}
    assert set(data.loc[data["epochs"].eq(10) & data["images"].eq(50) & data["blocks"].eq(3), "length"]) == {
        "10 epochs"
    }


def test_both_arms_are_named_alike(build: Build) -> None:
    """Also while only one of them has trials of the newest length."""
    data = frame(build.table(both(build)))
    kept = data[~((data["source"] == "l2") & (data["epochs"] == 30))]
    found = with_lengths(kept, lambda: planning(SHORT, LONG))
    at = found[(found["images"] == 50) & (found["epochs"] == 10)]
    assert dict(zip(at["source"], at["length"], strict=True)) == {"natural": "10 epochs", "l2": "10 epochs"}


def test_other_origins_and_recipes_are_named_only_for_their_own_lengths(build: Build) -> None:
    imported = trials(build, SHORT, origin="imported", recipe="imported", numerics=None, evaluate_every=None)
    data = frame(build.table([*both(build), *imported]), lambda: planning(SHORT))
    assert set(data.loc[data["origin"] == "imported", "length"]) == {""}
    assert variants(with_variant(data, {})) == ["own trials, 10 epochs", "own trials, 30 epochs", "imported"]


def test_the_last_launched_study_of_a_cell_decides() -> None:
    def record(name: str, digest: str, schedule: dict[int, int]) -> StudyRecord:
        grid = {"source": ["natural"], "dataset": ["digits"], "blocks": [3]}
        rows = [{"images": [size], "epochs": last, "seeds": 3, "evaluate_every": 30} for size, last in schedule.items()]
        return StudyRecord(name, digest, json.dumps({"name": name, "grid": grid, "schedule": rows, "recipe": {}}), ())

    def launch(name: str, digest: str) -> Launch:
        return Launch("a", name, digest, "me", "here", "2026", "1", {}, "2026")

    records = [record("a", "old", {50: 5, 200: 5}), record("a", "new", {50: 7}), record("b", "b", {50: 9, 800: 9})]
    order = [launch("b", "b"), launch("a", "old"), launch("a", "new")]

    def last(launches: list[Launch]) -> list[tuple[int, int]]:
        planned = planned_lengths(records, launches).sort_values(["launched", "images"])
        return [*zip(planned["images"], planned["epochs"], strict=True)]

    assert last(order) == [(50, 9), (800, 9), (50, 7)]
    assert last([*order, launch("b", "b")]) == [(50, 7), (50, 9), (800, 9)]


def test_the_headline_of_a_changed_schedule_never_counts_both_lengths(build: Build) -> None:
    """The newest version's cells are the headline; those of the older one stand apart, with their length."""
    root = build.root(both(build))
    study(root, "mine", "d1", SHORT, "2026-01-01T00:00:00+00:00")
    study(root, "mine", "d2", LONG, "2026-01-02T00:00:00+00:00")
    found = headline(root)
    assert list(found) == ["l2 minus natural (own trials, 10 or 30 epochs)", "l2 minus natural (own trials, 10 epochs)"]
    new, old = found.values()
    assert "higher in 2 of 3 cells" in new
    assert "lower in 1 of 3 cells" in new, "800 images have 10 epochs in both schedules"
    assert old.startswith("Test accuracy is lower in all 2 cells")


def test_planned_cells_without_trials_are_told_with_their_length(build: Build) -> None:
    root = build.root(trials(build, SHORT))
    study(root, "mine", "d2", LONG, "2026-01-02T00:00:00+00:00")
    (text,) = headline(root).values()
    assert text.endswith("; 2 planned cells of 30 epochs have no trial yet.")
    build.root(trials(build, {50: 30}))
    new, old = headline(root).values()
    assert new.endswith("; 1 planned cell of 30 epochs has no trial yet.")
    assert "planned cell" not in old


def test_two_studies_of_one_root_are_two_headlines(build: Build) -> None:
    root = build.root(both(build))
    study(root, "full", "d1", LONG, "2026-01-02T00:00:00+00:00")
    study(root, "pilot", "d1", SHORT, "2026-01-01T00:00:00+00:00")
    page = analysis.report(root).read_text()
    said = re.findall(r"<li><strong>(.*?)</strong> \((.*?)\)", page)
    assert said == [
        ("l2 minus natural (own trials, 10 or 30 epochs)", "last 3 blocks, last epoch, declared in advance"),
        ("l2 minus natural (own trials, 10 epochs)", "last 3 blocks, last epoch, declared in advance"),
    ]
    assert "50 (30 epochs)" in page


def test_bands_cover_the_sizes_of_one_length(build: Build) -> None:
    """The other length's cells make a band no wider, in tables as in the page."""
    ends = ["ci_low_simultaneous", "ci_high_simultaneous"]

    def bands(root: Path) -> dict[int, list[float]]:
        table = analysis.deltas(root).to_pandas().query("epochs == 10")
        return {row["images"]: [row[end] for end in ends] for row in table.to_dict("records")}

    alone = build.root(trials(build, {50: 10, 200: 10}), "alone")
    mixed = build.root([*trials(build, {50: 10, 200: 10}), *trials(build, {50: 30, 200: 30})], "mixed")
    assert bands(mixed) == {size: pytest.approx(ends) for size, ends in bands(alone).items()}
    found = []
    for root in (alone, mixed):
        data = read(LocalStore(root)).data
        deltas = payload(data, [Comparison("l2", "natural")])["deltas"]
        rows = zip(deltas["epochs"], deltas["images"], deltas["epoch"], deltas["band_last"], strict=True)
        found.append({row for row in rows if row[0] == 10 and row[2] == 10})
    assert found[0] == found[1] != set()


ENDS = ["ci_low_simultaneous", "ci_high_simultaneous"]


def test_selected_trials_have_the_bands_of_a_root_with_these_alone(build: Build) -> None:
    """What the other study plans, or another source was trained for, splits no curve of theirs."""
    pilot, full = trials(build, {50: 10, 200: 30, 800: 10}), trials(build, {50: 30, 200: 10})
    alone, root = build.root(pilot, "alone"), build.root([*pilot, *full], "mixed")
    for results in (alone, root):
        study(results, "pilot", "d1", {50: 10, 200: 30, 800: 10}, "2026-01-01T00:00:00+00:00")
    study(root, "full", "d1", {50: 30, 200: 10}, "2026-01-02T00:00:00+00:00")
    study(root, "half", "d1", {200: 10}, "2026-01-03T00:00:00+00:00")
    wanted = analysis.deltas(alone, study="pilot").to_pandas()[["images", *ENDS]]
    assert analysis.deltas(root, study="pilot").to_pandas()[["images", *ENDS]].equals(wanted)
    for name in ("deltas", "2"):
        bands = [ds.figure(results, name, study="pilot").table.to_pandas() for results in (alone, root)]
        assert bands[0].equals(bands[1])


def test_an_epoch_or_a_source_has_the_bands_of_a_root_with_its_trials_alone(build: Build) -> None:
    deep = [
        build.trial(source, seed, {5: 1.0 + seed * better, last: 50.0}, images=size, evaluate_every=every)
        for source, better in (("natural", 0.5), ("l2", 0.7))
        for seed in range(3)
        for size, last, every in ((50, 10, 5), (200, 10, 10), (200, 30, 5), (800, 10, 5))
    ]
    evaluated = [[row for row in rows if row["epoch"] != 5 or row["evaluate_every"] == 5] for rows in deep]
    root = build.root(evaluated, "mixed")
    study(root, "last", "d1", {200: 10}, "2026-01-01T00:00:00+00:00")
    alone = build.root([rows for rows in evaluated if rows[0]["evaluate_every"] == 5], "alone")
    bands = [analysis.deltas(of, epoch=5).to_pandas()[["images", *ENDS]] for of in (root, alone)]
    assert bands[0].equals(bands[1])
    other = [
        build.trial("linf", seed, {last: 50.0 + seed}, images=200, evaluate_every=30)
        for seed in range(3)
        for last in (10, 20)
    ]
    plain = trials(build, {50: 10, 200: 10})
    roots = build.root([*plain, *other], "three"), build.root(plain, "two")
    bands = [analysis.deltas(of, "natural", source="l2").to_pandas()[["images", *ENDS]] for of in roots]
    assert bands[0].equals(bands[1])


def test_figures_and_tables_show_each_length_apart(build: Build) -> None:
    data = frame(build.table(both(build)))
    accuracy, delta = figure("2", data).panels
    means = delta.points.groupby("variant")["mean"].mean().round(2)
    assert means.to_dict() == {
        "own trials, 10 epochs": -4.9,
        "own trials, 10 or 30 epochs": round((5.1 + 5.1 - 4.9) / 3, 2),
    }
    assert set(accuracy.points["variant"]) == set(means.index)
    assert not accuracy.points.duplicated(["arm", "variant", "x"]).any()
    made = table7(data)
    assert [row[:3] for row in made.rows] == [
        ("10 epochs", "digits", "50"),
        ("10 epochs", "digits", "200"),
        ("10 or 30 epochs", "digits", "50"),
        ("10 or 30 epochs", "digits", "200"),
        ("10 or 30 epochs", "digits", "800"),
    ]


def test_lengths_in_words() -> None:
    assert [lengths_text(of) for of in ([1], [30, 30], [30, 10], [5, 1, 3])] == [
        "1 epoch",
        "30 epochs",
        "10 or 30 epochs",
        "1, 3 or 5 epochs",
    ]


UNLIKE = (
    "sources without a common length in a cell are not comparable and never paired (l2: 10 epochs; natural: 30 epochs)"
)


def unlike(build: Build) -> list[Rows]:
    """Return trials of two sources with other lengths at 100 images, and with a common one at 800."""
    alike = trials(build, {800: 10})
    lengths = (("natural", 30), ("l2", 10))
    return [*alike, *(build.trial(source, seed, {last: 50.0 + seed}) for source, last in lengths for seed in range(3))]


def test_sources_without_a_common_length_are_found_in_their_cells(build: Build) -> None:
    data = frame(build.table(unlike(build)))
    found = apart(data, "source")
    assert sorted(zip(found["source"], found["images"], found["epochs"], strict=True)) == [
        ("l2", 100, 10),
        ("natural", 100, 30),
    ]
    assert apart_remark(data) == UNLIKE
    both = [*unlike(build), *(build.trial("l2", seed, {30: 60.0}) for seed in range(3))]
    assert apart_remark(frame(build.table(both))) == "", "a common length, and another one that is named by itself"


def test_depths_without_a_common_length_are_told_too(build: Build) -> None:
    rows = [*trials(build, {50: 10}, blocks=1), *trials(build, {50: 30}), *trials(build, {800: 30}, blocks=1)]
    data = frame(build.table([*rows, *trials(build, {800: 30})]))
    (remark,) = figure("4", data).notes
    assert remark == (
        "depths without a common length in a cell are not comparable and never paired (last 3 blocks: 30 epochs; last "
        "block: 10 epochs)"
    )


def test_figures_say_where_sources_have_no_common_length(build: Build) -> None:
    root = build.root(unlike(build))
    data = frame(build.table(unlike(build)))
    for made in (figure("2", data), ds.figure(root)._data):
        assert UNLIKE in made.notes
        assert f"{UNLIKE.capitalize()}." in made.words
    alone = frame(build.table(unlike(build)[6:]))
    with refused(Code.NO_ANSWER, "Figure 2", "(b) l2 minus natural", UNLIKE, key="source"):
        figure("2", alone)
    with refused(Code.NO_ANSWER, "l2, natural", UNLIKE, key="source"):
        ds.figure(build.root(unlike(build)[6:], "alone"))


def test_no_source_is_best_where_lengths_differ(build: Build) -> None:
    made = table7(frame(build.table(unlike(build))))
    assert [row[1] for row in made.rows] == ["100", "800"]
    assert made.best == {(1, "l2")}
    assert made.notes[1] == (
        "In 1 row no source is best: those without a common length are not comparable (l2: 10 epochs; natural: 30 "
        "epochs)."
    )


def test_headlines_say_that_cells_have_no_pair_because_of_lengths(build: Build) -> None:
    (text,) = headline(build.root(unlike(build))).values()
    assert text.endswith("; 2 cells have no pair, since the trials of the two arms differ in epochs.")
