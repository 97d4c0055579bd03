"""Fixtures of the orchestrator's tests: commands, one Ray for many launches, small data and made weights."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.durability.clusters import TestCluster
from tests.jobs.fixtures import digits, few_digits, weights
from tests.orchestrator.support import Command

__all__ = ["deltasweep", "digits", "few_digits", "one_ray", "ray_address", "weights"]


@pytest.fixture
def deltasweep(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    folder = tmp_path / "work"
    folder.mkdir()
    return Command(folder, capsys, monkeypatch)


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """Of a Ray of two CPUs that lives as long as the session: starting one takes as long as a small launch."""
    folder = Path(tempfile.mkdtemp(prefix="ds-"))  # a short name: Ray's sockets lie in it
    environment = {**os.environ, "RAY_TMPDIR": str(folder / "ray"), "DELTASWEEP_HOME": str(folder / "home")}
    cluster = TestCluster(environment, folder / "log", head_cpus=2)
    yield cluster.address
    cluster.end()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def one_ray(ray_address: str) -> Iterator[None]:
    """Launches of a module join the session's Ray, for tests of what launches do and not of how Ray is started.

    Its actors have a machine's folder of their own, not the test's.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", ray_address)
        yield
