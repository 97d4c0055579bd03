"""What is paired, what is not, and what stops the command."""

import pandas as pd
import pyarrow as pa
import pytest

from analysis.evaluations.frames import frame
from analysis.paired.pairing import pair
from jobs.errors import Code, ResultsConflict
from tests.analysis.support import Build
from tests.support import refused


def arms(table: pa.Table) -> tuple[pd.DataFrame, pd.DataFrame]:
    data = frame(table)
    return data[data["source"] == "robust"], data[data["source"] == "natural"]


def test_seeds_pair_and_the_rest_is_counted(build: Build) -> None:
    found = pair(*arms(build.table(build.arms(natural=[50, 51, 52], robust=[55, 57]))))
    assert found.pairs["difference"].tolist() == [5, 6]
    assert found.counts[["n_pairs", "n_unpaired"]].to_numpy().tolist() == [[2, 1]]


@pytest.mark.parametrize(
    "other",
    [
        {"dataset": "mnist"},
        {"blocks": 1},
        {"images": 200},
        {"recipe": "ba9876543210"},
        {"numerics": 2},
        {"origin": "imported"},
    ],
)
def test_nothing_pairs_across_a_key(build: Build, other: dict[str, object]) -> None:
    trials = [build.trial("natural", 0, 50.0), build.trial("robust", 0, 55.0, **other)]
    found = pair(*arms(build.table(trials)))
    assert found.pairs.empty
    assert found.counts["n_unpaired"].tolist() == [1, 1]


def test_trials_of_different_length_do_not_pair(build: Build) -> None:
    trials = [build.trial("natural", 0, {1: 40.0, 3: 50.0}), build.trial("robust", 0, {1: 44.0, 5: 50.0})]
    assert pair(*arms(build.table(trials))).pairs.empty


def test_imported_numerics_are_unknown_and_pair(build: Build) -> None:
    trials = build.arms([50], [55], origin="imported", numerics=None, recipe="imported")
    assert pair(*arms(build.table(trials))).pairs["difference"].tolist() == [5]


def test_unrecorded_seeds_pair_with_nothing(build: Build) -> None:
    trials = [build.trial("natural", -1, 50.0), build.trial("robust", -1, 55.0)]
    found = pair(*arms(build.table(trials)))
    assert found.pairs.empty
    assert found.counts["n_unpaired"].tolist() == [2]


def test_two_trials_under_one_key_stop(build: Build) -> None:
    again = build.trial("robust", 1, 56.0, evaluate_every=2, trial_id="finetune-again-00000000000000ff")
    table = build.table([*build.arms([50, 51], [55, 57]), again])
    with refused(Code.NOT_PAIRED, "2 evaluations", "seed 1", "finetune-again", kind=ResultsConflict, key="trial_id"):
        pair(*arms(table))


@pytest.mark.parametrize("other", [{}, {"subset_sha256": "f" * 64}])
def test_one_training_looked_at_more_often_counts_once(build: Build, other: dict[str, object]) -> None:
    often = build.trial("robust", 1, {1: 30.0, 2: 40.0, 3: 57.0}, trial_id="finetune-often-00000000000000ff", **other)
    trials = [
        build.trial(source, seed, {1: 30.0, 3: last})
        for source, values in (("natural", [50.0, 51.0]), ("robust", [55.0, 57.0]))
        for seed, last in enumerate(values)
    ]
    table = build.table([*trials, often])
    if other:
        with refused(Code.NOT_PAIRED, "accuracy", "subset", "finetune-often", kind=ResultsConflict, key="trial_id"):
            pair(*arms(table))
        return
    assert table.num_rows - len(frame(table)) == 2
    assert pair(*arms(table)).counts["n_pairs"].tolist() == [2, 0, 2]
    assert pair(*arms(table)).pairs["difference"].tolist() == [0, 0, 5, 6]


def test_one_seed_with_two_subsets_stops(build: Build) -> None:
    trials = [build.trial("natural", 0, 50.0), build.trial("robust", 0, 55.0, subset_sha256="f" * 64)]
    values = ("1 pairs", "f" * 12, trials[0][0]["trial_id"], trials[1][0]["trial_id"])
    with refused(Code.NOT_PAIRED, *values, kind=ResultsConflict, key="subset_sha256"):
        pair(*arms(build.table(trials)))


def test_a_missing_digest_is_no_other_digest(build: Build) -> None:
    trials = [build.trial("natural", 0, 50.0, subset_sha256=None), build.trial("robust", 0, 55.0)]
    assert len(pair(*arms(build.table(trials))).pairs) == 1
