"""Fixtures of the kill suite: where its processes live, sweeps, clusters, the undisturbed numbers."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from jobs.attempts import Keeping, attempt_trial, open_trial
from jobs.records import Attempt
from jobs.results import done, open_store
from jobs.specs import FinetuneSpec
from tests.durability.clusters import TestCluster
from tests.durability.sweep import CHECKPOINT_EVERY, HOOK, Rows, Sweep, rows


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name (Ray's sockets lie in it, and their names are limited)."""
    path = Path(tempfile.mkdtemp(prefix="ds-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    """Of all processes of a test: the hook, no GPU, a Ray of its own with a token of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "TUNE_"))}
    paths = [str(HOOK), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(paths),
        "CUDA_VISIBLE_DEVICES": "",
        "DELTASWEEP_HOME": str(folder / "home"),
        "RAY_TMPDIR": str(folder / "ray"),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
    }


@pytest.fixture
def make_sweep(folder: Path, environment: dict[str, str]) -> Iterator[Callable[..., Sweep]]:
    """Makes sweeps; whatever their processes are doing at the end of the test, they are ended."""
    made: list[Sweep] = []

    def make(name: str = "sweep", **grid: tuple[int, ...]) -> Sweep:
        made.append(Sweep(folder / name, environment, **grid))
        return made[-1]

    yield make
    for sweep in made:
        sweep.end()


@pytest.fixture
def sweep(request: pytest.FixtureRequest, make_sweep: Callable[..., Sweep]) -> Sweep:
    """Twelve trials: blocks 0, 3, 9; 75 and 100 images; two seeds. A test may ask for less (``SMALL``)."""
    return make_sweep(**getattr(request, "param", {}))


@pytest.fixture
def make_cluster(folder: Path, sweep: Sweep) -> Iterator[Callable[[int], TestCluster]]:
    """Makes a cluster whose actors write the trace of ``sweep``."""
    made: list[TestCluster] = []

    def make(head_cpus: int) -> TestCluster:
        temporary = folder / "cluster"
        temporary.mkdir()
        environment = {**sweep.environment, "RAY_TMPDIR": str(temporary)}
        made.append(TestCluster(environment, folder / "cluster.log", head_cpus))
        return made[-1]

    yield make
    for cluster in made:
        cluster.end()


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The same trials in this process, undisturbed and without Ray: the rows by trial id.

    Processes of one run share the root: each trial runs in the first that asks for it.
    """
    folder = tmp_path_factory.getbasetemp()
    return Undisturbed((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "undisturbed")


class Undisturbed(Rows):
    """The rows of the trials of a sweep, each of which runs when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._lock = FileLock(f"{folder}.lock")
        self._root = folder / "root"
        with tempfile.TemporaryDirectory() as study:
            self._specs = Sweep(Path(study), {}).specs

    def __getitem__(self, trial: str) -> list[tuple[object, ...]]:
        with self._lock:
            store = open_store(str(self._root))
            if trial not in done(store, FinetuneSpec.kind):
                opened = open_trial(store, self._specs[trial], torch.device("cpu"))
                attempt_trial(store, opened, Attempt(), Keeping(CHECKPOINT_EVERY))
            return rows(self._root)[trial]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)
