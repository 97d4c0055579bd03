"""Submission from the user's machine through the head's job API with a token, and what other users can access there."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.cluster.hosts import Host
from tests.cluster.ray_cluster import RayCluster
from tests.cluster.sweep import ClusterSweep
from tests.durability.processes import wait_until
from tests.durability.sweep import Rows

pytestmark = [pytest.mark.timeout(1200), pytest.mark.parametrize("root", ["s3"], indirect=True)]

DASHBOARD = "http://127.0.0.1:8265"
INTERRUPTED = 130


def test_a_submitted_sweep_needs_no_laptop(
    make_cluster: Callable[[int], RayCluster], sweep: ClusterSweep, reference: Rows
) -> None:
    """The laptop submits, stops and resumes the job, follows it, detaches and is switched off.

    It later finds the sweep done, without any batch executed twice.
    """
    cluster = make_cluster(2)
    cluster.up(*cluster.workers)
    _require_locked_doors(cluster)
    with _dashboard_on(cluster, cluster.laptop, "ray", "dashboard", str(cluster.file)):
        first = sweep.start(cluster, cluster.laptop, "launch", "--submit", "--address", DASHBOARD)
        first.wait_until(lambda: any(map(sweep.running_on, cluster.workers)), "a trial runs")
        (job,) = set(re.findall(r"raysubmit_\w+", first.text))
        cluster.on(cluster.laptop, "ray", "job", "stop", "--address", DASHBOARD, job)
        first.wait()
        assert "To resume: deltasweep resume" in first.text, first.text
        assert len(sweep.done()) < len(sweep.specs)
        listening = sweep.start(cluster, cluster.laptop, "resume", "--submit", "--address", DASHBOARD)
        listening.wait_until(sweep.done, "a trial is done")
        listening.wait_until(lambda: "time left" in listening.text, "the driver's lines are heard here")
        (deltasweep,) = listening.family()  # the process below nsenter, which would not wait for its reply to Ctrl-C
        os.kill(deltasweep.pid, signal.SIGINT)
        assert listening.wait(60) == INTERRUPTED, listening.text
    assert "continues to run" in listening.text
    assert "deltasweep status --watch" in listening.text
    cluster.laptop.kill()
    wait_until(lambda: sweep.done() == sweep.specs.keys(), "the sweep is done without the laptop")
    cluster.laptop.start()
    # /tmp is now empty, including Ray's launcher state for the user's own machines, so ssh is used directly
    key = str(cluster.network.keys / "user")
    ssh = ("ssh", "-N", "-o", "StrictHostKeyChecking=no", "-i", key, "-L", "8265:127.0.0.1:8265")
    with _dashboard_on(cluster, cluster.laptop, *ssh, f"root@{cluster.head.address}"):
        again = sweep.start(cluster, cluster.laptop, "resume", "--submit", "--address", DASHBOARD)
        assert again.wait() == 0, again.text
    assert f"{len(sweep.specs)} of {len(sweep.specs)} trials are done" in again.text
    status = cluster.on(cluster.laptop, "deltasweep", "status", "--json", "--results", sweep.root)
    assert json.loads(status)["done"] == len(sweep.specs)
    print(sweep.summary())
    assert len(sweep.trace()) == len({(b.trial, b.epoch, b.batch) for b in sweep.trace()})
    sweep.require_same_as(reference)


def test_other_versions_are_refused(make_cluster: Callable[[int], RayCluster], sweep: ClusterSweep) -> None:
    """A worker with another DeltaSweep version than the head ends the launch with a message and charges no trial."""
    cluster = make_cluster(1)
    (worker,) = cluster.workers
    old = cluster.network.shared / "old" / "deltasweep-0.0.9.dist-info"
    old.mkdir(parents=True)
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: deltasweep\nVersion: 0.0.9\n")
    profile = worker.home / ".bash_profile"
    profile.write_text(profile.read_text() + f"export PYTHONPATH={old.parent}:$PYTHONPATH\n")
    cluster.up(worker)
    run = sweep.start(cluster, cluster.head, "launch", "--address", cluster.address)
    assert run.wait() == 3, run.text
    assert "worker0 has deltasweep 0.0.9 (the driver has" in run.text
    assert not sweep.done()
    assert not sweep.failures(), "trials were charged with it"


def _require_locked_doors(cluster: RayCluster) -> None:
    """The dashboard and its job API listen on loopback only.

    They, a node's agent, the GCS and Ray's client port only answer clients with the token.
    """
    listening = cluster.on(cluster.head, "ss", "-Hltn").splitlines()
    places = {line.split()[3] for line in listening if line.split()[3].endswith(":8265")}
    assert places == {"127.0.0.1:8265"}
    assert cluster.attempt(cluster.laptop, *_curl(f"http://{cluster.head.address}:8265/api/version")).returncode != 0
    for path in ("/api/jobs/", "/api/v0/nodes", "/nodes?view=summary", "/api/cluster_status"):
        assert _status(cluster.head, cluster, DASHBOARD + path) == "401", path
        assert _status(cluster.head, cluster, DASHBOARD + path, "wrong" * 12) == "403", path
    agent = f"http://{cluster.head.address}:52365/api/job_agent/jobs/"
    assert _status(cluster.laptop, cluster, agent) == "401"
    connect = f"import ray.util; ray.util.connect('{cluster.head.address}:10001', connection_retries=1)"
    # On a busy machine the process that Ray's proxy starts for a client sometimes ends at once, so this tries again.
    cluster.wait_until(
        lambda: cluster.attempt(cluster.laptop, "python", "-c", connect).returncode == 0, "a client connects"
    )
    wrong = {"RAY_AUTH_TOKEN": "wrong" * 12}
    for environment in (wrong, {"RAY_AUTH_MODE": "disabled"}):
        submitted = cluster.attempt(
            cluster.head, "ray", "job", "submit", "--address", DASHBOARD, "--", "touch", "/tmp/intruder", **environment
        )
        assert submitted.returncode != 0
        client = cluster.attempt(cluster.laptop, "python", "-c", connect, **environment)
        assert "ConnectionError" in client.stderr
        gcs = cluster.attempt(cluster.laptop, "ray", "status", "--address", cluster.address, **environment)
        assert gcs.returncode != 0, gcs.stdout
        refused = cluster.attempt(
            cluster.laptop,
            "deltasweep",
            "launch",
            "demo",
            "--results",
            "/tmp/x",
            "--address",
            cluster.address,
            **environment,
        )
        assert refused.returncode == 3, refused.stdout + refused.stderr
    assert cluster.attempt(cluster.head, "test", "-e", "/tmp/intruder").returncode == 1


def _curl(url: str, token: str | None = None) -> tuple[str, ...]:
    header = ("--header", f"Authorization: Bearer {token}") if token else ()
    return (
        "curl",
        "--silent",
        "--output",
        "/dev/null",
        "--max-time",
        "10",
        "--write-out",
        "%{http_code}",
        *header,
        url,
    )


def _status(host: Host, cluster: RayCluster, url: str, token: str | None = None) -> str:
    return cluster.attempt(host, *_curl(url, token)).stdout


@contextmanager
def _dashboard_on(cluster: RayCluster, laptop: Host, *tunnel_command: str) -> Iterator[None]:
    """Forward the head's port to the laptop's loopback while a command runs: ``ray dashboard``, or ssh itself."""
    tunnel = subprocess.Popen(
        [*laptop.inside(), *tunnel_command],
        env=cluster.environment_on(laptop),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(
            lambda: _status(laptop, cluster, f"{DASHBOARD}/api/version") in ("200", "401"), "the tunnel is open", 120
        )
        yield
    finally:
        tunnel.kill()
        tunnel.wait()
