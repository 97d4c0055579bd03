"""A results root in an object store gives the same results as the same root on disk."""

import json
from pathlib import Path
from typing import Any

import pytest

import analysis
from jobs.errors import Code, InvalidRequest
from jobs.results import Failure, LocalStore, Store, commit, compact, open_store, record_failure, record_study
from tests.analysis.support import Build, Rows
from tests.support import refused

STUDY = {
    "name": "mine",
    "contrasts": [{"source": "robust", "baseline": "natural", "blocks": [3]}],
    "grid": {"source": ["natural", "robust"], "dataset": ["digits"], "blocks": [3]},
    "schedule": [{"images": [100, 200], "epochs": 1, "seeds": 3, "evaluate_every": 1}],
    "recipe": {},
}
_FIELDS: dict[str, Any] = {
    **dict.fromkeys(Failure._fields, "words"),
    "trial_id": "finetune-x-00",
    "attempt": 1,
    "kind": "error",
}
FAILURE = Failure(**_FIELDS)


def fill(store: Store, trials: list[Rows]) -> None:
    for index, rows in enumerate(trials):
        if index == len(trials) // 2:
            compact(store, "finetune")
        commit(store, "finetune", rows)
    record_study(store, "mine", "d1", json.dumps(STUDY))
    record_failure(store, FAILURE, "log")


@pytest.fixture
def roots(build: Build, bucket: str, tmp_path: Path) -> tuple[str, str]:
    """One root on disk and one in a bucket, with the same trials, half of them compacted."""
    trials = [
        rows for images in (100, 200) for rows in build.arms([50.0, 52.0, 51.0], [54.0, 57.5, 54.0], images=images)
    ]
    local, remote = str(tmp_path / "root"), f"s3://{bucket}/some/remote"
    fill(LocalStore(tmp_path / "root"), trials)
    fill(open_store(remote), trials)
    return local, remote


def test_same_answers_as_on_disk(roots: tuple[str, str]) -> None:
    local, remote = roots
    for sql in (
        "SELECT * FROM evaluations ORDER BY ALL",
        "SELECT source, count(*) AS n FROM trials GROUP BY ALL ORDER BY ALL",
        "SELECT * FROM failures",
    ):
        found = analysis.query(remote, sql)
        assert found.num_rows > 0
        assert found.equals(analysis.query(local, sql))
    assert analysis.load(remote).equals(analysis.load(local))
    found = analysis.deltas(remote)
    assert found.num_rows == 2
    assert found.equals(analysis.deltas(local), check_metadata=True)
    assert analysis.aggregate(remote).equals(analysis.aggregate(local))


@pytest.mark.slow
def test_the_report_of_a_bucket_is_that_of_the_disk(roots: tuple[str, str], tmp_path: Path) -> None:
    made = [analysis.report(root, tmp_path / name) for root, name in zip(roots, ("local", "remote"), strict=True)]
    local, remote = ({file.name: file.read_bytes() for file in page.parent.iterdir()} for page in made)
    # the page contains the location of its results
    pages = [files.pop("index.html").decode() for files in (local, remote)]
    assert pages[0].replace(roots[0], roots[1]) == pages[1]
    assert local == remote


@pytest.mark.usefixtures("no_figure_files")
def test_without_out_it_lies_here_and_not_in_the_bucket(
    roots: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(open_store(roots[1]).keys(""))
    page = analysis.report(roots[1])
    assert page == tmp_path / "remote-report" / "index.html"
    assert page.is_file()
    assert sorted(open_store(roots[1]).keys("")) == before


def test_an_empty_prefix_is_told(bucket: str) -> None:
    root = f"s3://{bucket}/nothing"
    with refused(Code.NO_ROOT, root, kind=InvalidRequest, file=root, key="--results"):
        analysis.query(root, "SELECT 1 AS a")
