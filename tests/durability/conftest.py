"""Fixtures of the kill tests: the folder of their processes, sweeps, clusters, and the undisturbed numbers."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from jobs.catalog.catalog import PACKAGED
from jobs.execution.attempt import attempt_trial
from jobs.execution.commit import Attempt
from jobs.execution.retention import RetentionPolicy
from jobs.kinds.finetune.trial import Finetuning
from jobs.results import done, open_store
from tests.another_finetuning import registered
from tests.durability.clusters import TestCluster
from tests.durability.sweep import CHECKPOINT_EVERY, Rows, Sweep, rows
from tests.durability.watched import KIND, PYTHONPATH


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with registered(KIND):
        yield


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name, because it contains Ray's sockets, whose path length is limited."""
    path = Path(tempfile.mkdtemp(prefix="ds-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    """Variables for all processes of a test: the watched kind, no GPU, and a separate Ray with its own token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "TUNE_"))}
    paths = [*PYTHONPATH, *filter(None, [os.environ.get("PYTHONPATH")])]
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
    """Return a function that makes sweeps; their processes are ended at the end of the test."""
    made: list[Sweep] = []

    def make(name: str = "sweep", **choices: Any) -> Sweep:
        made.append(Sweep(folder / name, environment, **choices))
        return made[-1]

    yield make
    for sweep in made:
        sweep.end()


@pytest.fixture
def sweep(request: pytest.FixtureRequest, make_sweep: Callable[..., Sweep]) -> Sweep:
    """Twelve trials: blocks 0, 3, 9; 75 and 100 images; two seeds. A test may request fewer (``SMALL``)."""
    return make_sweep(**getattr(request, "param", {}))


@pytest.fixture
def make_cluster(folder: Path, sweep: Sweep) -> Iterator[Callable[[int], TestCluster]]:
    """Return a function that makes a cluster whose actors write the trace of ``sweep``."""
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
    """The rows by trial id of the same trials, run in this process, undisturbed and without Ray.

    The processes of one test run share the root: each trial runs in the first process that needs it.
    """
    folder = tmp_path_factory.getbasetemp()
    return Undisturbed((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "undisturbed")


class Undisturbed(Rows):
    """The rows of a sweep's trials, each of which runs when it is first requested."""

    def __init__(self, folder: Path) -> None:
        self._lock = FileLock(f"{folder}.lock")
        self._root = folder / "root"
        with tempfile.TemporaryDirectory() as study:
            self._specs = Sweep(Path(study), {}).specs

    def __getitem__(self, trial: str) -> list[tuple[object, ...]]:
        with self._lock:
            store = open_store(str(self._root))
            if trial not in done(store, KIND.name):
                opened = Finetuning.open(store, self._specs[trial], PACKAGED, torch.device("cpu"))
                attempt_trial(store, opened, Attempt(), RetentionPolicy(CHECKPOINT_EVERY))
            return rows(self._root)[trial]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)
