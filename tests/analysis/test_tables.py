"""Tables 5, 6 and 7, their markup, and the comparison with the paper."""

import csv
import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from analysis.comparison import against_paper, comparison_table, summary
from analysis.frames import at_epoch, frame
from analysis.tables import markup
from analysis.tables.accuracy import printed, table7
from analysis.tables.catalogue import table5, table6
from analysis.tables.model import Table
from tests.analysis.support import Build

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


def test_no_rows_can_be_written_too() -> None:
    empty = Table(name="t", title="T", columns=("a",), rows=(), numbers=frozenset())
    assert all(write(empty) for write in markup.WRITERS.values())


def test_table7_has_means_and_the_best_in_bold(build: Build) -> None:
    trials = [*build.arms([50.0, 51.0], [55.0, 56.0]), build.trial("random_init", 0, 70.0, blocks=-1, images=-1)]
    made = table7(frame(build.table(trials)))
    assert made.columns == ("dataset", "images", "natural", "random_init (all blocks)", "robust")
    assert made.rows == (("digits", "100", "50.50", "", "55.50"), ("digits", "all", "", "70.00", ""))
    assert made.best == {(0, "robust"), (1, "random_init (all blocks)")}


def test_table7_keeps_numerics_apart(build: Build) -> None:
    trials = [*build.arms([50.0, 52.0], [60.0, 62.0]), *build.arms([70.0, 72.0], [80.0, 82.0], numerics=2)]
    made = table7(frame(build.table(trials)))
    assert made.columns == ("numerics", "dataset", "images", "natural", "robust")
    assert made.rows == (("1", "digits", "100", "51.00", "61.00"), ("2", "digits", "100", "71.00", "81.00"))
    assert made.notes == ("Means of 2 seeds a cell, last epoch.",)


def test_tables_5_and_6_tell_what_is_known(build: Build) -> None:
    data = frame(build.table([build.trial("linf_eps4", 0, 50.0), build.trial("stranger", 0, 50.0, dataset="unheard")]))
    assert table5(data).rows[0] == ("linf_eps4", "resnet50", "imagenet", "linf", "4/255", "62.42")
    assert table5(data).rows[1] == ("stranger", "?", "?", "?", "?", "?")
    assert table6(data).rows == (("digits", "1,000", "797", "10", "grayscale"), ("unheard", "?", "?", "?", "?"))


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


@pytest.fixture
def own(build: Build) -> pd.DataFrame:
    columns = {"dataset": "cifar10", "images": 100}
    trials = [build.trial("natural", seed, value, **columns) for seed, value in enumerate([48.0, 49.0, 48.4])]
    trials += [build.trial("l2_eps3", seed, value, **columns) for seed, value in enumerate([60.0, 60.1])]
    return frame(
        build.table([*trials, build.trial("linf_eps4", 0, 50.0, **columns), build.trial("other", 0, 1.0, **columns)])
    )


def test_own_means_beside_the_paper(own: pd.DataFrame) -> None:
    found = against_paper(own).set_index("source")
    natural = found.loc["natural"]
    interval = stats.ttest_1samp([48.0, 49.0, 48.4], 0).confidence_interval()
    assert (natural["mean"], natural["printed"]) == (pytest.approx(48.46667, abs=1e-5), 48.49)
    assert (natural["low"], natural["high"]) == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert found["covered"].to_dict() == {"natural": True, "l2_eps3": False, "linf_eps4": None}


def test_the_comparison_in_words(own: pd.DataFrame) -> None:
    made = comparison_table(own)
    assert len(made.rows) == 3
    assert made.notes[0].startswith(
        "3 cells of Table 7; the largest difference is 8.16 percentage points; the interval "
    )
    assert made.notes[0].endswith("covers the printed figure in 1 of the 2 cells that have one.")
    assert "no cell of Table 7" in summary(against_paper(own[own["dataset"] == "digits"]))


def test_published_trials_reproduce_the_small_cells(published: pa.Table) -> None:
    found = against_paper(frame(published))
    small = found[found["images"].between(1, 1600)]
    assert len(small) == 65
    assert small["difference"].abs().max() <= 0.01
    assert small["covered"].all()


def test_means_are_of_the_last_epoch(published: pa.Table) -> None:
    last = at_epoch(frame(published), "last")
    chosen = last[
        (last["dataset"] == "mnist") & (last["blocks"] == 3) & (last["images"] == 200) & (last["source"] == "natural")
    ]
    found = against_paper(frame(published)).query("dataset == 'mnist' and images == 200 and source == 'natural'")
    assert found["mean"].iloc[0] == pytest.approx(np.mean(chosen["test_accuracy"]), abs=1e-12)
