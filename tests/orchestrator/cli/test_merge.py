"""Merging roots from the command line, in directories and in an object store."""

import json
from pathlib import Path

import pytest

from jobs.results import commit, done, open_store, pin
from jobs.results.layout import pin_key
from tests.orchestrator.support import Command
from tests.results.support import KIND, rows, trial


@pytest.mark.parametrize("into", ["directory", "bucket"])
def test_roots_of_a_directory_and_a_bucket_are_joined(
    into: str, bucket: str, tmp_path: Path, deltasweep: Command
) -> None:
    one, two = str(tmp_path / "one"), f"s3://{bucket}/two"
    target = str(tmp_path / "joined") if into == "directory" else f"s3://{bucket}/joined"
    for root, numbers in ((one, (1, 2)), (two, (2, 3))):
        store = open_store(root)
        pin(store, "datasets", "digits", "d" * 64)
        for number in numbers:
            commit(store, KIND, rows(number))
    joined = deltasweep("merge", one, two, "--results", target)
    assert (joined.code, f"3 trials added to {target}; 1 already present" in joined.out) == (0, True)
    assert done(open_store(target), KIND) == {trial(1), trial(2), trial(3)}
    assert len(json.loads(deltasweep("query", "FROM trials", "--results", target, "--format", "json").out)) == 3

    commit(open_store(two), KIND, rows(4))
    commit(open_store(one), KIND, rows(4, test_loss=9.0))
    conflict = deltasweep("merge", two, one, "--results", target)
    assert (conflict.code, f"conflict: {trial(4)}" in conflict.out) == (1, True)

    pin(open_store(two), "sources", "natural", "a" * 64)
    pin(open_store(one), "sources", "natural", "b" * 64)
    elsewhere = f"s3://{bucket}/elsewhere"
    refused = deltasweep("merge", one, two, "--results", elsewhere)
    assert (refused.code, pin_key("sources", "natural").removesuffix(".json") in refused.message) == (2, True)
    assert list(open_store(elsewhere).keys("")) == []
