"""Tables 5, 6 and 7, their markup, and the comparison with the paper."""

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from analysis.evaluations.frames import at_epoch, frame
from analysis.evaluations.recipes import Choices
from analysis.tables import markup
from analysis.tables.accuracy import table7
from analysis.tables.catalogue import table5, table6
from analysis.tables.model import Table
from analysis.tables.paper_comparison import against_paper, comparison_table, summary
from analysis.tables.published import other_choices, printed
from jobs.catalog.catalog import PACKAGED
from jobs.specs.recipes import RECIPES
from tests.analysis.support import Build, Rows

TABLE = Table(
    name="t",
    title="A table",
    columns=("name_x", "n"),
    rows=(("a|b & 50 %", "1,000"), ("c", "")),
    numbers=frozenset({"n"}),
    best=frozenset({(0, "n")}),
    notes=("A note.",),
)


def test_csv() -> None:
    assert list(csv.reader(io.StringIO(markup.csv(TABLE)))) == [["name_x", "n"], ["a|b & 50 %", "1000"], ["c", ""]]


def test_markdown() -> None:
    lines = markup.markdown(TABLE).splitlines()
    assert lines[2:6] == ["| name_x | n |", "| :--- | ---: |", "| a\\|b & 50 % | **1,000** |", "| c |  |"]
    assert lines[-1] == "A note."


def test_latex() -> None:
    text = markup.latex(TABLE)
    assert r"\begin{tabular}{lr}" in text
    assert r"name\_x & n \\" in text
    assert r"a|b \& 50 \% & \textbf{1,000} \\" in text
    assert r"\caption{A table. A note.}" in text


@pytest.mark.parametrize("form", markup.WRITERS)
def test_a_name_begins_no_row_and_no_formula(form: str) -> None:
    evil = "=x\n| forged | 99 |\u202e"
    table = Table(
        name="t",
        title=evil,
        columns=("a", evil),
        rows=((evil, "-1,000"),),
        numbers=frozenset({evil}),
        best=frozenset({(0, evil)}),
        notes=(evil,),
    )
    written = markup.WRITERS[form](table)
    plain = Table(
        name="t", title="t", columns=("a", "b"), rows=(("c", "-1,000"),), numbers=frozenset({"b"}), notes=("d",)
    )
    assert len(written.splitlines()) == len(markup.WRITERS[form](plain).splitlines())
    assert "\u202e" not in written
    if form == "csv":
        shown = "'=x\\u000a| forged | 99 |\\u202e"
        assert list(csv.reader(io.StringIO(written))) == [["a", shown], [shown, "-1000"]]


def test_no_rows_can_be_written_too() -> None:
    empty = Table(name="t", title="T", columns=("a",), rows=(), numbers=frozenset())
    assert all(write(empty) for write in markup.WRITERS.values())


def test_table7_has_means_and_the_best_in_bold(build: Build) -> None:
    trials = [*build.arms([50.0, 51.0], [55.0, 56.0]), build.trial("random_init", 0, 70.0, blocks=-1, images=-1)]
    made = table7(frame(build.table(trials)))
    assert made.columns == ("dataset", "images", "natural", "random_init (all blocks)", "robust")
    assert made.rows == (("digits", "100", "50.50", "", "55.50"), ("digits", "all", "", "70.00", ""))
    assert made.best == {(0, "robust")}, "the only source of a row is not the best of several"
    assert made.title.endswith("fine-tuned: last 3 blocks")


def test_table7_shows_every_source_at_its_own_depth(build: Build) -> None:
    """Three blocks, or else the largest number; all blocks are more than any number, and no column has two depths."""
    trials = [
        *build.arms([50.0], [55.0]),
        *build.arms([40.0], [45.0], blocks=1),
        *build.arms([], [60.0], source="flat", blocks=1),
        *build.arms([], [61.0], source="whole", blocks=1),
        *build.arms([], [62.0], source="whole", blocks=-1, images=200),
    ]
    made = table7(frame(build.table(trials)))
    assert made.columns == ("dataset", "images", "natural", "flat (last block)", "robust", "whole (all blocks)")
    assert made.rows == (("digits", "100", "50.00", "60.00", "55.00", ""), ("digits", "200", "", "", "", "62.00"))
    whole = table7(frame(build.table(build.arms([50.0], [55.0], blocks=-1))))
    assert whole.title.endswith("fine-tuned: all blocks")
    assert whole.columns == ("dataset", "images", "natural", "robust")


def test_table7_marks_all_sources_that_are_best(build: Build) -> None:
    trials = [*build.arms([50.0], [55.001]), *build.arms([], [54.999], source="alike")]
    assert table7(frame(build.table(trials))).best == {(0, "robust"), (0, "alike")}


@pytest.mark.parametrize("name", ["dataset", "images", "recipe", "origin", "length", "numerics"])
def test_a_source_may_be_called_like_another_column(build: Build, name: str) -> None:
    trials = [*build.arms([50.0], [55.0], source=name), *build.arms([60.0], [65.0], source=name, recipe="other")]
    made = table7(frame(build.table(trials)))
    assert len(set(made.columns)) == len(made.columns)
    assert [row[-2:] for row in made.rows] in (
        [("50.00", "55.00"), ("60.00", "65.00")],
        [("60.00", "65.00"), ("50.00", "55.00")],
    )
    assert made.columns[-1] in (name, f"source {name}")
    assert all(write(made) for write in markup.WRITERS.values())


def test_table7_keeps_numerics_apart(build: Build) -> None:
    trials = [*build.arms([50.0, 52.0], [60.0, 62.0]), *build.arms([70.0, 72.0], [80.0, 82.0], numerics=2)]
    made = table7(frame(build.table(trials)))
    assert made.columns == ("numerics", "dataset", "images", "natural", "robust")
    assert made.rows == (("1", "digits", "100", "51.00", "61.00"), ("2", "digits", "100", "71.00", "81.00"))
    assert made.notes == ("Means over seeds after the last epoch; seeds per cell: 2.",)


def test_tables_5_and_6_tell_what_is_known(build: Build) -> None:
    data = frame(build.table([build.trial("linf_eps4", 0, 50.0), build.trial("stranger", 0, 50.0, dataset="unheard")]))
    assert table5(data).rows[0] == ("linf_eps4", "resnet50", "imagenet", "linf", "4/255", "62.42")
    assert table5(data).rows[1] == ("stranger", "?", "?", "?", "?", "?")
    assert table6(data).rows == (("digits", "1,000", "797", "10", "grayscale"), ("unheard", "?", "?", "?", "?"))
    own = PACKAGED.dataset("digits").model_copy(update={"name": "unheard", "train": 250, "test": 125, "labels": 5})
    assert table6(data, {"unheard": own}).rows[1] == ("unheard", "250", "125", "5", "grayscale")
    source = PACKAGED.source("linf_eps4").model_copy(update={"name": "stranger"})
    assert table5(data, {"stranger": source}).rows[1][1:5] == ("resnet50", "imagenet", "linf", "4/255")


def test_the_bundled_sources_tell_their_own_accuracy(build: Build) -> None:
    row = table5(frame(build.table([build.trial("fmnist_natural", 0, 50.0)]))).rows[0]
    assert 85 < float(row[-1]) < 95


def test_table_7_as_printed_has_every_cell() -> None:
    table = printed()
    assert len(table) == 6 * 10 * 5
    assert table["printed"].between(1, 100).all()
    assert not table.duplicated(["dataset", "images", "source"]).any()


def test_table_7_is_the_transcription(table7: pd.DataFrame) -> None:
    ours = printed()
    theirs = table7.assign(whole=table7.groupby("dataset")["training_images"].transform("max"))
    theirs["images"] = theirs["training_images"].where(theirs["training_images"] < theirs["whole"], -1)
    both = ours.merge(theirs, on=["dataset", "images", "source"], validate="one_to_one")
    assert len(both) == 300
    assert (both["printed"] == both["test_accuracy_percent"]).all()


CIFAR: dict[str, Any] = {"dataset": "cifar10", "images": 100, "epochs": 100, "recipe": "published"}
CHOICES: dict[str, Choices] = {
    "published": RECIPES["as-published"].model_dump(mode="json"),
    "threads": RECIPES["as-published"].model_dump(mode="json") | {"threads": 4, "tf32": True},
    "released": RECIPES["as-released"].model_dump(mode="json"),
    "later": RECIPES["as-published"].model_dump(mode="json") | {"mixup": 0.2},
    "fast": RECIPES["fast"].model_dump(mode="json"),
    "whole images": RECIPES["as-published"].model_dump(mode="json") | {"crop": "whole-image"},
}


def cell(build: Build, source: str, accuracies: Sequence[float], **columns: Any) -> list[Rows]:
    """Return trials of a cell; by default CIFAR-10 at 100 images, as in Table 7."""
    shared = CIFAR | columns
    return [
        build.trial(source, seed, {1: 9.0, shared["epochs"]: value}, **shared) for seed, value in enumerate(accuracies)
    ]


@pytest.fixture
def own(build: Build) -> pd.DataFrame:
    arms = [("natural", [48.0, 49.0, 48.4]), ("l2_eps3", [60.0, 60.1]), ("linf_eps4", [50.0]), ("other", [1.0])]
    return frame(build.table([rows for source, values in arms for rows in cell(build, source, values)]))


def test_own_means_beside_the_paper(own: pd.DataFrame) -> None:
    found = against_paper(own, CHOICES).set_index("source")
    natural = found.loc["natural"]
    interval = stats.ttest_1samp([48.0, 49.0, 48.4], 0).confidence_interval()
    assert (natural["mean"], natural["printed"]) == (pytest.approx(48.46667, abs=1e-5), 48.49)
    assert (natural["low"], natural["high"]) == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert found["covered"].to_dict() == {"natural": True, "l2_eps3": False, "linf_eps4": None}
    assert set(found["unlike"]) == {""}


def test_the_comparison_in_words(own: pd.DataFrame) -> None:
    made = comparison_table(own, CHOICES, {})
    assert len(made.rows) == 3
    assert made.notes[0].startswith("3 cells of Table 7: own trials with the recipe as-published ")
    assert "; the largest difference is 8.16 percentage points; the interval " in made.notes[0]
    assert made.notes[0].endswith("covers the printed value in 1 of the 2 cells with an interval.")
    assert "Not compared" not in " ".join(made.notes)
    assert "no cell of Table 7" in summary(against_paper(own[own["dataset"] == "digits"], CHOICES))[0]


@pytest.mark.parametrize(
    ("columns", "unlike"),
    [
        ({"recipe": "released"}, "normalization as-released (source); transforms as-released (as-published)"),
        ({"recipe": "later"}, "mixup 0.2"),
        ({"recipe": "threads"}, ""),
        ({"recipe": "fast"}, ""),
        ({"recipe": "whole images"}, ""),
        ({"recipe": "nobody wrote this down"}, "recipe not recorded"),
        ({"epochs": 30}, "30 epochs (100)"),
        ({"epochs": 150}, "150 epochs (100)"),
        ({"images": 1600, "epochs": 150}, "150 epochs (100)"),
        ({"images": 3200, "epochs": 100}, "100 epochs (150)"),
        ({"images": 3200, "epochs": 150}, ""),
        ({"images": -1, "epochs": 150}, ""),
        ({"images": -1, "epochs": 50}, "50 epochs (150)"),
        ({"origin": "imported", "recipe": "imported", "numerics": None}, ""),
        ({"origin": "imported", "recipe": "imported", "numerics": None, "epochs": 30}, "30 epochs (100)"),
        (
            {"recipe": "released", "images": 3200, "epochs": 30},
            "30 epochs (150); normalization as-released (source); transforms as-released (as-published)",
        ),
    ],
)
def test_trials_of_another_recipe_or_length_are_no_agreement(
    build: Build, columns: dict[str, Any], unlike: str
) -> None:
    data = frame(build.table(cell(build, "natural", [48.0, 49.0, 48.4], **columns)))
    (row,) = against_paper(data, CHOICES).to_dict("records")
    assert (row["unlike"], row["covered"] is None) == (unlike, unlike != "")
    made = comparison_table(data, CHOICES, {})
    told = dict(zip(made.columns, made.rows[0], strict=True))
    assert told["epochs"] == str(columns.get("epochs", 100))
    assert told["other settings (paper)"] == unlike
    assert (told["95 % interval"] != "", told["covered"] == "") == (True, unlike != "")
    notes = " ".join(made.notes)
    assert ("Not compared: 1 cell" in notes) == (unlike != "")
    assert all(one in notes for one in unlike.split("; "))
    assert ("the interval covers the printed value in" in notes) == (unlike == "")
    assert ("imported trials" in notes) == (columns.get("origin") == "imported")


def test_where_images_may_not_be_square_their_crop_counts() -> None:
    for dataset in ("caltech101", "of_someone"):
        assert other_choices(CHOICES["whole images"], dataset) == ("crop whole-image (centre-square)",)


def test_intervals_of_few_seeds_are_told(own: pd.DataFrame, build: Build) -> None:
    few = "With only 2 to 3 seeds, an interval assumes normally distributed accuracies."
    assert few in comparison_table(own, CHOICES, {}).notes
    more = frame(build.table(cell(build, "linf_eps8", [50.0, 51.0, 52.0, 52.5, 53.0])))
    assert few.replace("seeds,", "seeds in 2 rows,") in summary(against_paper(pd.concat([own, more]), CHOICES))
    assert "assumes" not in " ".join(summary(against_paper(more, CHOICES)))


def test_a_cell_of_two_lengths_is_compared_by_the_table_s(build: Build) -> None:
    """Trials of another length do not hide those with the table's length, however many there are."""
    short, long = (
        cell(build, "natural", values, epochs=epochs) for epochs, values in ((30, [40.0] * 5), (100, [48.0]))
    )
    found = against_paper(frame(build.table([*short, *long])), CHOICES)
    assert found[["epochs", "n", "unlike"]].to_numpy().tolist() == [[30, 5, "30 epochs (100)"], [100, 1, ""]]


def test_published_trials_reproduce_the_small_cells(published: pa.Table) -> None:
    found = against_paper(frame(published), {})
    small = found[found["images"].between(1, 1600)]
    assert len(small) == 65
    assert small["difference"].abs().max() <= 0.01
    assert small["covered"].all()
    assert set(small["unlike"]) == {""}


def test_published_trials_of_other_lengths_are_no_agreement(published: pa.Table) -> None:
    found = against_paper(frame(published), {})
    large = found[(found["images"] > 1600) | (found["images"] == -1)]
    shorter = large["epochs"] < 150
    assert set(large.loc[shorter, "unlike"]) == {f"{epochs} epochs (150)" for epochs in (30, 50, 100)}
    assert large.loc[shorter, "covered"].isna().all()
    said = summary(found)
    assert said[1].startswith(f"{65 + int((~shorter).sum())} cells of Table 7: imported trials")
    cells = len(large[shorter].drop_duplicates(["dataset", "images", "source"]))
    assert said[2].startswith(f"Not compared: {cells} cells")


def test_means_are_of_the_last_epoch(published: pa.Table) -> None:
    last = at_epoch(frame(published), "last")
    chosen = last[
        (last["dataset"] == "mnist") & (last["blocks"] == 3) & (last["images"] == 200) & (last["source"] == "natural")
    ]
    found = against_paper(frame(published), {}).query("dataset == 'mnist' and images == 200 and source == 'natural'")
    assert found["mean"].iloc[0] == pytest.approx(np.mean(chosen["test_accuracy"]), abs=1e-12)


def test_equal_accuracies_cover_nothing_and_miss_nothing(build: Build) -> None:
    """An interval without width is not counted as one that does not cover the printed value."""
    equal, other = cell(build, "natural", [48.0, 48.0]), cell(build, "l2_eps3", [60.0, 60.1])
    found = against_paper(frame(build.table([*equal, *other])), CHOICES)
    assert found.set_index("source")["covered"].to_dict() == {"natural": None, "l2_eps3": False}
    words = "in 1 row all accuracies are equal: an interval without width, not precision"
    assert f"; {words}; the interval covers the printed value in 0 of the 1 other cells" in summary(found)[0]
    alone = summary(against_paper(frame(build.table(equal)), CHOICES))[0]
    assert alone.endswith(f"{words}.")


def test_a_cell_of_several_rows_counts_once(build: Build) -> None:
    twice = [*cell(build, "natural", [48.0, 49.0]), *cell(build, "natural", [47.0, 48.5], numerics=2)]
    said = summary(against_paper(frame(build.table(twice)), CHOICES))
    assert said[0].startswith("1 cell (2 rows) of Table 7: own trials")
    assert "of the 2 rows with an interval" in said[0]
    short = [*cell(build, "natural", [48.0], epochs=30), *cell(build, "natural", [47.0], epochs=50)]
    assert summary(against_paper(frame(build.table(short)), CHOICES))[1].startswith("Not compared: 1 cell (2 rows) ")


def test_random_initialization_is_compared_where_all_blocks_were_trained(build: Build) -> None:
    deep, whole = (cell(build, "random_init", [48.0, 49.0], blocks=blocks) for blocks in (3, -1))
    assert against_paper(frame(build.table(deep)), CHOICES).empty
    assert len(against_paper(frame(build.table([*deep, *whole])), CHOICES)) == 1
