"""Fixtures of the orchestrator's tests: commands, one Ray cluster for many launches, small data, generated weights."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.analysis.fixtures import browser, no_figure_files
from tests.durability.clusters import TestCluster
from tests.jobs.fixtures import digits, few_digits, short_tests, weights
from tests.orchestrator.in_process import replace_ray
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


@pytest.fixture(scope="module")
def without_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run the launches of a module in this process, for tests that are not about Ray."""
    with pytest.MonkeyPatch.context() as patch:
        replace_ray(patch, tmp_path_factory.mktemp("errors"))
        yield


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    """Let the launches of a module share one Ray cluster with two CPUs.

    Starting one takes as long as a small launch. Its actors use their own DeltaSweep home, not that of the test.
    """
    folder = Path(tempfile.mkdtemp(prefix="ds-"))  # a short path, because Ray's sockets are in it
    environment = {**os.environ, "RAY_TMPDIR": str(folder / "ray"), "DELTASWEEP_HOME": str(folder / "home")}
    cluster = TestCluster(environment, folder / "log", head_cpus=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield
    cluster.end()
    shutil.rmtree(folder, ignore_errors=True)
