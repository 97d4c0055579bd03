"""Fixtures of the cluster's tests. Without root or tools they skip; where they must run, that is a failure."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from jobs.attempts import Keeping, attempt_trial, open_trial
from jobs.records import Attempt
from tests.cluster.hosts import MISSING, REPOSITORY, Network, namespaces_are_allowed
from tests.cluster.ray_cluster import RayCluster
from tests.cluster.sweep import ClusterSweep, control_of
from tests.durability.sweep import HOOK, Rows, rows
from tests.machine import not_proved
from tests.results.servers import ENVIRONMENT, s3_server

REQUIRE = "DELTASWEEP_REQUIRE_CLUSTER"
"""Set where hosts must be possible: then what is missing is a failure."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Everything here is marked, and runs only when asked for by that mark: ``-m cluster``."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in here:
        item.add_marker(pytest.mark.cluster)
    if "cluster" not in config.option.markexpr:
        items[:] = [item for item in items if item not in here]
        config.hook.pytest_deselected(items=here)


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
    """A results root that all hosts reach, as the test asks for it: ``directory``, a folder that they share, or ``s3``,
    a bucket on the bridge.
    """
    if request.param == "s3":
        return str(request.getfixturevalue("bucket_root"))
    network: Network = request.getfixturevalue("network")
    return str(network.shared / "root")


@pytest.fixture
def bucket_root(network: Network, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A prefix in a bucket of an S3 server on the bridge; its keys are in the environment."""
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
    """Makes a cluster of so many workers, not started; the environment of its hosts is the test's."""

    made: list[RayCluster] = []

    def make(workers: int) -> RayCluster:
        cloud = {name: os.environ[name] for name in (*ENVIRONMENT, "AWS_ENDPOINT_URL") if name in os.environ}
        environment = {
            **cloud,
            "PYTHONPATH": f"{HOOK}:{REPOSITORY}",
            "DELTASWEEP_TEST_CONTROL": str(control_of(network.shared)),
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
    """The same trials one after another in this process, undisturbed and without Ray: the rows by trial id."""
    folder = tmp_path_factory.mktemp("reference")
    sweep = ClusterSweep(folder, str(folder / "root"))
    for spec in sweep.specs.values():
        attempt_trial(sweep.store, open_trial(sweep.store, spec, torch.device("cpu")), Attempt(), Keeping(2))
    return rows(sweep.root)
