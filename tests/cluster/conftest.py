"""Fixtures of the cluster's tests. They skip without root or tools, or fail where the tests are required to run."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from jobs.catalog.catalog import PACKAGED
from jobs.execution.attempt import attempt_trial
from jobs.execution.commit import Attempt
from jobs.execution.retention import RetentionPolicy
from jobs.kinds.finetune.trial import Finetuning
from tests.another_finetuning import registered
from tests.cluster.hosts import MISSING, Network, namespaces_are_allowed
from tests.cluster.ray_cluster import RayCluster
from tests.cluster.sweep import ClusterSweep, control_of
from tests.durability.sweep import Rows, rows
from tests.durability.watched import CONTROL, KIND, PYTHONPATH
from tests.machine import not_proved
from tests.results.servers import ENVIRONMENT, s3_server

REQUIRE = "DELTASWEEP_REQUIRE_CLUSTER"
"""Set where hosts must be possible: missing requirements are then failures."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark all tests here, and select them only if requested by that mark: ``-m cluster``."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in here:
        item.add_marker(pytest.mark.cluster)
        item.add_marker(pytest.mark.slow(120))
    if "cluster" not in config.option.markexpr:
        items[:] = [item for item in items if item not in here]
        config.hook.pytest_deselected(items=here)


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with registered(KIND):
        yield


@pytest.fixture(scope="session")
def _hosts_are_possible() -> None:
    lacking = (["root"] if os.geteuid() else []) + MISSING
    if not lacking and not namespaces_are_allowed():
        lacking = ["to make network namespaces and bridges, which a container may not be allowed to"]
    if not lacking:
        return
    what, remedy = "what happens on hosts of a cluster", f"they need {', '.join(lacking)}; then sudo make test-cluster"
    if os.environ.get(REQUIRE):
        pytest.fail(f"{what}: {remedy}")
    not_proved(what, remedy)


@pytest.fixture
def network(_hosts_are_possible: None) -> Iterator[Network]:
    """A bridge; its hosts end with the test."""
    folder = Path(tempfile.mkdtemp(prefix="ds-", dir="/var/tmp"))
    (folder / "shared").mkdir()
    made = Network(folder, folder / "shared")
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(folder)


@pytest.fixture
def root(request: pytest.FixtureRequest) -> str:
    """A results root that all hosts can reach.

    The test selects ``directory``, a folder that they share, or ``s3``, a bucket on the bridge.
    """
    if request.param == "s3":
        return str(request.getfixturevalue("bucket_root"))
    network: Network = request.getfixturevalue("network")
    return str(network.shared / "root")


@pytest.fixture
def bucket_root(network: Network, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A prefix in a bucket of an S3 server on the bridge; its credentials are in the environment."""
    with s3_server(network.address) as server:
        for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": server.endpoint}.items():
            monkeypatch.setenv(name, value)
        yield f"s3://{server.make_bucket()}/sweeps"


@pytest.fixture
def sweep(network: Network, root: str) -> Iterator[ClusterSweep]:
    """36 trials."""
    made = ClusterSweep(network.shared, root)
    yield made
    for run in made.runs:
        run.end()


@pytest.fixture
def make_cluster(network: Network) -> Iterator[Callable[[int], RayCluster]]:
    """Return a function that makes a cluster with this many workers, not started; hosts get the test's environment."""

    made: list[RayCluster] = []

    def make(workers: int) -> RayCluster:
        cloud = {name: os.environ[name] for name in (*ENVIRONMENT, "AWS_ENDPOINT_URL") if name in os.environ}
        environment = {
            **cloud,
            "PYTHONPATH": os.pathsep.join(PYTHONPATH),
            CONTROL: str(control_of(network.shared)),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
        }
        made.append(RayCluster(network, environment, workers, secrets.token_hex(32)))
        return made[-1]

    yield make
    for cluster in made:
        cluster.end()


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The rows by trial id of the same trials, run one after another in this process, undisturbed and without Ray."""
    folder = tmp_path_factory.mktemp("reference")
    sweep = ClusterSweep(folder, str(folder / "root"))
    with registered(KIND):
        for spec in sweep.specs.values():
            trial = Finetuning.open(sweep.store, spec, PACKAGED, torch.device("cpu"))
            attempt_trial(sweep.store, trial, Attempt(), RetentionPolicy(2))
        return rows(sweep.root)
