"""Fixtures of the orchestrator's tests: commands, one Ray cluster for many launches, small data, generated weights."""

from pathlib import Path

import pytest

from tests.analysis.fixtures import browser, no_figure_files
from tests.jobs.fixtures import digits, few_digits, short_tests, weights
from tests.orchestrator.fixtures import one_ray, without_ray
from tests.orchestrator.support import Command
from tests.results.fixtures import bucket, s3

__all__ = [
    "browser",
    "bucket",
    "deltasweep",
    "digits",
    "few_digits",
    "no_figure_files",
    "one_ray",
    "s3",
    "short_tests",
    "weights",
    "without_ray",
]


@pytest.fixture
def deltasweep(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    folder = tmp_path / "work"
    folder.mkdir()
    return Command(folder, capsys, monkeypatch)
