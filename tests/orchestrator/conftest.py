"""Fixtures of the orchestrator's tests: commands, one Ray for many launches, small data and made weights."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.analysis.fixtures import no_figure_files
from tests.durability.clusters import TestCluster
from tests.jobs.fixtures import digits, few_digits, short_tests, weights
from tests.orchestrator.in_process import replace_ray
from tests.orchestrator.support import Command
from tests.results.fixtures import bucket, s3

__all__ = [
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
    """Launches of a module run in this process: Ray is not what its tests are of."""
    with pytest.MonkeyPatch.context() as patch:
        replace_ray(patch, tmp_path_factory.mktemp("errors"))
        yield


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    """Launches of a module join one Ray of two CPUs: starting one takes as long as a small launch.

    Its actors have a machine's folder of their own, not the test's.
    """
    folder = Path(tempfile.mkdtemp(prefix="ds-"))  # a short name: Ray's sockets lie in it
    environment = {**os.environ, "RAY_TMPDIR": str(folder / "ray"), "DELTASWEEP_HOME": str(folder / "home")}
    cluster = TestCluster(environment, folder / "log", head_cpus=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield
    cluster.end()
    shutil.rmtree(folder, ignore_errors=True)
