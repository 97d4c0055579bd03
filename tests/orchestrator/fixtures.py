"""Fixtures of tests that launch, imported by the conftests that need them: no Ray, or one cluster for many launches."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.durability.clusters import TestCluster
from tests.orchestrator.in_process import replace_ray


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
