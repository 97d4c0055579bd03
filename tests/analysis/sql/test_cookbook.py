"""Every query in the cookbook runs, and those with a hand-computed result return it."""

import re
from pathlib import Path
from typing import Any

import pytest

import analysis
from tests.analysis.support import Build

COOKBOOK = Path(__file__).parents[3] / "docs" / "how-to" / "query-cookbook.md"
QUERIES = re.findall(r"## \d+\. (.*?)\n.*?```sql\n(.*?)```", COOKBOOK.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def root(build: Build) -> Path:
    gains = {"natural": 0.0, "robust": 4.0}
    trials = [
        build.trial(source, seed, {1: 20.0, 11: 49.5 + gain, 30: 50.0 + gain, 31: 49.0 + gain}, recipe_json="{}")
        for source, gain in gains.items()
        for seed in range(3)
    ]
    return build.root(trials[:-1])


def answer(root: Path, words: str) -> list[dict[str, Any]]:
    (sql,) = [sql for title, sql in QUERIES if words in title]
    found: list[dict[str, Any]] = analysis.query(root, sql).to_pylist()
    return found


@pytest.mark.parametrize(("title", "sql"), QUERIES, ids=[title for title, _ in QUERIES])
def test_every_query_runs(root: Path, title: str, sql: str) -> None:
    assert analysis.query(root, sql).num_columns > 1, title


def test_there_are_ten_and_more() -> None:
    assert len(QUERIES) == 11


def test_imported_trials_pair_where_their_seeds_are_known(build: Build) -> None:
    """Their numerics are null; a seed of -1 is unknown."""
    imported = [
        build.trial(source, seed, accuracy, origin="imported", recipe="imported", numerics=None, evaluate_every=None)
        for source, accuracy in (("natural", 50.0), ("robust", 53.0))
        for seed in (-1, 0)
    ]
    own = build.arms([50.0], [54.0])
    found = answer(build.root([*own, *imported]), "seed by seed")
    assert {(row["numerics"], row["seed"], row["delta"]) for row in found} == {(1, 0, 4), (None, 0, 3)}


def test_answers(root: Path) -> None:
    assert [row["delta"] for row in answer(root, "seed by seed")] == [4, 4]
    assert [(row["seed"], row["present"]) for row in answer(root, "missing in one arm")] == [(2, ["natural"])]
    assert {row["epoch"] for row in answer(root, "Learning speed")} == {11}
    assert {row["lost"] for row in answer(root, "Overfitting")} == {1}
    assert [row["best_blocks"] for row in answer(root, "best number")] == [3, 3]
