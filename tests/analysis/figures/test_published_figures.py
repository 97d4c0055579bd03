"""Figures 2 and 3 with imported published trials beside the user's own trials."""

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

import analysis
from analysis.evaluations.frames import frame
from analysis.evaluations.reading import open_results
from analysis.evaluations.recipes import Choices
from analysis.figures.published import Beside, beside_published
from analysis.page.results import read
from analysis.page.sections.published import contents
from jobs.specs.recipes import RECIPES
from jobs.specs.trial import recipe_digest
from tests.analysis.support import Build, Rows

LIKE, RELEASED = (recipe_digest(RECIPES[name]) for name in ("as-published", "as-released"))
CHOICES: dict[str, Choices] = {
    LIKE: RECIPES["as-published"].model_dump(mode="json"),
    RELEASED: RECIPES["as-released"].model_dump(mode="json"),
}
IMPORTED: dict[str, Any] = {"origin": "imported", "recipe": "imported", "numerics": None}
OWN: dict[str, Any] = {"recipe": LIKE}

Compare = Callable[..., list[Beside]]


def arms(
    build: Build,
    gain: float,
    datasets: tuple[str, ...] = ("cifar10", "mnist"),
    sizes: tuple[int, ...] = (100, 3200),
    epochs: int = 100,
    seeds: int = 4,
    **columns: Any,
) -> Iterator[Rows]:
    """Yield trials of two sources that differ by ``gain`` after the last epoch and by twice that after the first."""
    for dataset in datasets:
        for images in sizes:
            for source, more in (("natural", 0.0), ("l2_eps3", gain)):
                for seed in range(seeds):
                    noise = ((seed + 1) * (2 if more else 1) % 3) / 4
                    curve = {1: 20.0 + 2 * more + noise, 21: 45.0 + more + noise, epochs: 50.0 + more + noise}
                    yield build.trial(source, seed, curve, dataset=dataset, images=images, **columns)


@pytest.fixture
def compare(build: Build) -> Compare:
    def made(*trials: Rows) -> list[Beside]:
        found = beside_published(frame(build.table(trials)), CHOICES)
        assert (found.why_not == "") == bool(found.pairs)
        return found.pairs

    return made


def told(pair: Beside) -> pd.DataFrame:
    return pd.DataFrame(pair.table.rows, columns=list(pair.table.columns))


def test_own_and_published_deltas_stand_side_by_side(compare: Compare, build: Build) -> None:
    two, three = compare(*arms(build, 3.0, **OWN), *arms(build, 2.5, **IMPORTED))
    rows = told(two)
    assert rows[["dataset", "images"]].to_numpy().tolist() == [
        [dataset, images] for dataset in ("cifar10", "mnist") for images in ("100", "3,200")
    ]
    deltas = [float(value) for value in rows["own delta"]], [float(value) for value in rows["published delta"]]
    assert all(own - published == pytest.approx(0.5) for own, published in zip(*deltas, strict=True))
    assert set(rows["difference"]) == {"+0.50"}
    assert set(rows["own n"]) == set(rows["published n"]) == {"4"}
    assert set(rows["other settings (published)"]) == {""}
    assert two.table.notes[0].startswith(
        "4 rows with the published trials' recipe (as-published, although they record none)"
    )
    assert (
        "the largest difference is 0.50 percentage points; the intervals overlap in 4 of the 4 rows with an interval"
        in two.table.notes[0]
    )
    assert told(three)[["dataset", "images", "epoch"]].to_numpy().tolist() == [
        [dataset, "3,200", epoch] for dataset in ("cifar10", "mnist") for epoch in ("1", "21", "100")
    ]
    assert set(told(three)["difference"]) == {"+1.00", "+0.50"}


def test_each_panel_has_both_in_equal_axes_the_published_hollow(compare: Compare, build: Build) -> None:
    for one in compare(*arms(build, 3.0, **OWN), *arms(build, 2.5, **IMPORTED)):
        names = [panel.title for panel in one.figure.panels]
        assert names == [
            f"{dataset}: {what}" for dataset in ("cifar10", "mnist") for what in ("test accuracy", "difference")
        ]
        for panel in one.figure.panels:
            points = panel.points
            assert list(dict.fromkeys(points["variant"])) == ["own trials", "published trials"]
            assert set(points["series"]) == {panel.title.partition(":")[0]}
            own, published = (points[points["variant"] == name] for name in ("own trials", "published trials"))
            assert own["x"].tolist() == published["x"].tolist()


@pytest.mark.parametrize(
    ("columns", "unlike"),
    [
        ({"epochs": 30}, "30 epochs (100)"),
        ({"recipe": RELEASED}, "normalization as-released (source); transforms as-released (as-published)"),
        ({"recipe": "not recorded"}, "recipe not recorded"),
    ],
)
def test_unlike_trials_are_shown_and_not_counted(
    compare: Compare, build: Build, columns: dict[str, Any], unlike: str
) -> None:
    for one in compare(*arms(build, 3.0, **{**OWN, **columns}), *arms(build, 2.5, **IMPORTED)):
        assert set(told(one)["other settings (published)"]) == {unlike}
        assert one.table.notes[0] == "No cell has own trials with the recipe and length of the published ones."
        assert all(part in one.table.notes[1] for part in unlike.split("; "))


def notes(compare: Compare, *trials: Rows) -> str:
    """Return the notes on the first table, without the last one."""
    return " ".join(compare(*trials)[0].table.notes[:-1])


def test_intervals_of_few_pairs_are_told(compare: Compare, build: Build) -> None:
    one: dict[str, Any] = {"datasets": ("cifar10",), "sizes": (100,)}
    words = "an interval assumes normally distributed differences"
    assert f"With only 3 to 4 pairs, {words}." in notes(
        compare, *arms(build, 3.0, **one, **OWN), *arms(build, 2.5, seeds=3, **one, **IMPORTED)
    )
    more = [
        *arms(build, 3.0, ("mnist",), (100,), seeds=5, **OWN),
        *arms(build, 2.5, ("mnist",), (100,), seeds=5, **IMPORTED),
    ]
    few = [*arms(build, 3.0, **one, **OWN), *arms(build, 2.5, **one, **IMPORTED)]
    assert f"With only 4 pairs in 1 row, {words}." in notes(compare, *more, *few)
    assert words not in notes(compare, *more)


def test_an_interval_without_width_neither_overlaps_nor_misses(compare: Compare, build: Build) -> None:
    one: dict[str, Any] = {"datasets": ("cifar10",), "sizes": (100,)}
    equal = [
        build.trial(source, seed, {1: 20.0, 100: value + seed}, dataset="mnist", images=100, **OWN)
        for source, value in (("natural", 50.0), ("l2_eps3", 53.0))
        for seed in range(4)
    ]
    published = list(arms(build, 2.5, sizes=(100,), **IMPORTED))
    words = "in 1 row all differences of own or of published trials are equal: an interval without width, not precision"
    assert f"percentage points; {words}. " in notes(compare, *equal, *published)
    both = notes(compare, *equal, *published, *arms(build, 3.0, **one, **OWN))
    assert f"; {words}; the intervals overlap in 1 of the 1 other rows with an interval." in both
    assert both.count(words) == 1
    unlike = [[row | {"recipe": RELEASED} for row in rows] for rows in equal]
    found = notes(compare, *unlike, *published)
    assert "Not counted: 1 row that differs in recipe or length:" in found
    assert found.count(words) == 1


def test_single_pairs_have_no_intervals_that_could_overlap(compare: Compare, build: Build) -> None:
    found = notes(compare, *arms(build, 3.0, seeds=1, **OWN), *arms(build, 2.5, **IMPORTED))
    assert "; no row has two pairs of own and of published trials, so no interval can be given." in found
    assert "overlap" not in found


def test_equal_lengths_stand_beside_each_other_where_there_are_such(compare: Compare, build: Build) -> None:
    own = [*arms(build, 9.0, epochs=30, seeds=6, **OWN), *arms(build, 3.0, epochs=100, **OWN)]
    published = [*arms(build, 2.5, **IMPORTED), *arms(build, 9.0, epochs=50, seeds=9, **IMPORTED)]
    for one in compare(*own, *published):
        rows = told(one)
        assert set(rows["own epochs"]) == set(rows["published epochs"]) == {"100"}
        assert set(rows["difference"]) <= {"+0.50", "+1.00"}
        assert all(panel.points["mean"].max() < 58 for panel in one.figure.panels)


def test_own_trials_of_the_published_recipe_are_shown_before_others(compare: Compare, build: Build) -> None:
    own = [*arms(build, 3.0, **OWN), *arms(build, 9.0, seeds=9, recipe=RELEASED)]
    for one in compare(*own, *arms(build, 2.5, **IMPORTED)):
        assert set(told(one)["difference"]) <= {"+0.50", "+1.00"}
        assert "Own trials of a single recipe are shown; 72 trials of others are left out." in one.table.notes
    elsewhere = [*arms(build, 3.0, datasets=("svhn",), **OWN), *arms(build, 3.0, recipe=RELEASED)]
    assert len(compare(*elsewhere, *arms(build, 2.5, **IMPORTED))) == 2, "the other recipe has what can be compared"


def test_cells_that_only_one_has_are_left_out(compare: Compare, build: Build) -> None:
    own = arms(build, 3.0, datasets=("cifar10", "svhn"), sizes=(100, -1), **OWN)
    two, three = compare(*own, *arms(build, 2.5, sizes=(100, 200, -1), **IMPORTED))
    assert told(two)[["dataset", "images"]].to_numpy().tolist() == [["cifar10", "100"], ["cifar10", "all"]]
    assert [set(panel.points["x"]) for panel in two.figure.panels] == [{100, 1000}] * 2
    assert set(told(three)["images"]) == {"100"}, "the nearest to the paper's 3,200 that both have"
    assert len(compare(*arms(build, 3.0, sizes=(-1,), **OWN), *arms(build, 2.5, sizes=(-1,), **IMPORTED))) == 1


def test_one_sentence_says_why_there_is_nothing_to_compare(build: Build) -> None:
    own, published = list(arms(build, 3.0, **OWN)), list(arms(build, 2.5, **IMPORTED))
    for trials, said in (
        (own, "`deltasweep import-trials FILE.csv --results ROOT`"),
        (published, "among both the own and the imported trials"),
        ([*own, *arms(build, 1.0, datasets=("svhn",), **IMPORTED)], "No cell (dataset, images) has pairs of l2_eps3"),
        (
            [*own, *(rows for rows in published if rows[0]["source"] == "natural")],
            "do not include a natural and an L2 source",
        ),
        ([rows for rows in [*own, *published] if "imported" in rows[0]["origin"] or rows[0]["seed"] == 9], "No cell"),
    ):
        found = beside_published(frame(build.table(trials)), CHOICES)
        assert found.pairs == []
        assert said in found.why_not


def test_the_published_trials_beside_their_own_copy(published: pa.Table) -> None:
    theirs = frame(published)
    copy = theirs[theirs["seed"] != -1].assign(origin="run", recipe=LIKE, numerics=1)
    copy["trial_id"] = "own-" + copy["trial_id"]
    for one in beside_published(pd.concat([theirs, copy], ignore_index=True), CHOICES).pairs:
        rows = told(one)
        assert set(rows["dataset"]) == {"cifar10", "cifar100", "fmnist", "mnist"}
        assert set(rows["difference"]) == {"+0.00"}
        assert (rows["own epochs"] == rows["published epochs"]).all()
        assert one.table.notes[0].startswith(f"{len(rows)} rows with the published")


@pytest.mark.usefixtures("no_figure_files")
def test_the_report_has_them_where_it_is_asked_to_compare(build: Build) -> None:
    root = build.root(arms(build, 3.0, ("cifar10",), (100,), **OWN))
    assert list(contents(read(open_results(root)))) == []
    (alone,) = contents(read(open_results(root), compare_paper=True))
    assert "deltasweep import-trials FILE.csv" in alone.values["why_not"]
    assert alone.values["why_not"].partition("`")[0] in analysis.report(root, compare_paper=True).read_text()
    build.root(arms(build, 2.5, ("cifar10",), (100,), **IMPORTED))
    page = analysis.report(root, compare_paper=True)
    inner = page.read_text().partition(HEADING)[2]
    for number, rows in ((2, 1), (3, 3)):
        assert f"Figure {number}: own and published trials" in inner
        assert len(pd.read_csv(page.parent / f"figure{number}-published-deltas.csv")) == rows
        assert len(pd.read_csv(page.parent / f"figure{number}-published.csv")) > rows


HEADING = ">Comparison with the published trials</h2>"
