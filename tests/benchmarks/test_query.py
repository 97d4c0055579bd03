"""The benchmark of queries times the index: a query of its roots reads no trial's own file."""

import warnings
from pathlib import Path

import analysis
from benchmarks.query import QUERIES, ROWS, make_root


def test_its_roots_are_answered_from_the_index(tmp_path: Path) -> None:
    make_root(tmp_path, count=96, scale=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answers = {name: analysis.query(tmp_path, sql) for name, sql in QUERIES.items()}
    assert answers["count"].to_pydict() == {"count_star()": [2 * 96 * ROWS]}
    assert all(answer.num_rows for answer in answers.values())
