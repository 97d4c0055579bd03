"""A Ray cluster on test hosts, started by ``ray up`` with the packaged file for the user's own machines."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from ray.autoscaler._private.fake_multi_node.node_provider import (
    FAKE_HEAD_NODE_ID,
    FAKE_HEAD_NODE_TYPE,
    FakeMultiNodeProvider,
)
from ray.autoscaler._private.util import prepare_config

from tests.cluster.hosts import REPOSITORY, Host, Network
from tests.durability.processes import wait_until

AWS = REPOSITORY / "cluster.yaml"
LOCAL = REPOSITORY / "orchestrator" / "clusters" / "local.yaml"
BIN = Path(sys.prefix) / "bin"
LOOPBACK = "127.0.0.1"
GPUS = 1
"""Logical GPUs of each worker."""
CPUS = 4
_OBJECT_STORE = "--object-store-memory=80000000"


class Look(NamedTuple):
    """Ray's state at one moment."""

    nodes: dict[str, str]
    """Workers that Ray considers alive: node id to address."""
    actors: dict[str, list[str]]
    """Ids of the living trial actors on each of these nodes."""

    @property
    def running(self) -> int:
        return sum(map(len, self.actors.values()))

    def nodes_on(self, host: Host) -> set[str]:
        return {node for node, address in self.nodes.items() if address == host.address}

    def running_on(self, host: Host) -> int:
        return sum(len(self.actors[node]) for node in self.nodes_on(host))


class RayCluster:
    """A laptop, a head and workers; ``up`` starts Ray on them."""

    def __init__(self, network: Network, environment: Mapping[str, str], workers: int, token: str) -> None:
        """
        Args:
            environment: Variables of every process on every host, set by its login shell.
            workers: Number of hosts in the cluster file.
            token: The token in the laptop's file, which ``ray up`` copies to the others.
        """
        self.network = network
        self.environment = {"PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin", "RAY_AUTH_MODE": "token", **environment}
        self.laptop = network.add("laptop")
        self.head = network.add("head")
        self.workers = [network.add(f"worker{number}") for number in range(workers)]
        for host in (self.laptop, self.head, *self.workers):
            self._write_profile(host)
        token_file = self.laptop.home / ".ray" / "auth_token"
        token_file.parent.mkdir()
        token_file.write_text(token)
        token_file.chmod(0o600)
        self._started: list[subprocess.Popen[bytes]] = []
        self._looks = network.shared / "looks"
        self.file = network.shared / "cluster.yaml"
        self.file.write_text(yaml.safe_dump(self._config(), sort_keys=False))
        self.laptop.start()

    @property
    def address(self) -> str:
        return f"{self.head.address}:6379"

    def up(self, *hosts: Host) -> None:
        """Switch on the head and these workers and start Ray; the other workers may come later."""
        for host in (self.head, *hosts):
            host.start()
        self.on(self.laptop, "ray", "up", "-y", "--no-config-cache", str(self.file))
        self.watch()
        self.wait_until(lambda: all(map(self.look().nodes_on, hosts)), f"{len(hosts)} workers joined")

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until a condition is true; if it stays false, fail with the end of the cluster's logs."""
        try:
            wait_until(condition, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from None

    def up_autoscaling(self, idle_minutes: float, most: int) -> None:
        """Start Ray on the head alone, with its autoscaler and the packaged file for AWS.

        The machines that it requests are further raylets on the head's loopback: Ray's own fake provider replaces AWS.
        """
        self.head.start()
        shutil.copytree(self.laptop.home / ".ray", self.head.home / ".ray")
        config = prepare_config(yaml.safe_load(AWS.read_text()))
        types = config["available_node_types"]
        types[FAKE_HEAD_NODE_TYPE] = types.pop(config["head_node_type"])
        for node_type in types.values():
            node_type["node_config"] = {}
        fake = {"gcs_address": f"{LOOPBACK}:6379", "head_node_id": FAKE_HEAD_NODE_ID, "launch_multiple": True}
        # with `type: fake_multinode`, Ray 2.60 looks for a file of defaults that its wheel does not contain
        fake |= {"type": "external", "module": f"{FakeMultiNodeProvider.__module__}.{FakeMultiNodeProvider.__name__}"}
        fake |= {"disable_node_updaters": True}
        config |= {"provider": fake, "auth": {}, "head_node_type": FAKE_HEAD_NODE_TYPE}
        config |= {"file_mounts": {}, "idle_timeout_minutes": idle_minutes, "max_workers": most}
        self.file.write_text(yaml.safe_dump(config))
        self.on(
            self.head,
            *("ray", "start", "--head", "--num-cpus=0", "--num-gpus=0", "--port=6379", f"--node-ip-address={LOOPBACK}"),
            *(f"--dashboard-host={LOOPBACK}", f"--autoscaling-config={self.file}", _OBJECT_STORE),
            RAY_FAKE_CLUSTER="1",
            RAY_enable_autoscaler_v2="1",  # `ray up` sets these three in the same way
            RAY_CLOUD_INSTANCE_ID=FAKE_HEAD_NODE_ID,
            RAY_NODE_TYPE_NAME=FAKE_HEAD_NODE_TYPE,
        )
        self.watch()

    def watch(self) -> None:
        """Make the head record Ray's state repeatedly; see ``looks``."""
        self._start(self.head, self._looks, "tests.cluster.state_watcher")

    def looks(self) -> list[Look]:
        """Return all states recorded so far of the running cluster, oldest first."""
        lines = self._looks.read_text().rpartition("\n")[0].splitlines() if self._looks.exists() else []
        return [Look(**json.loads(line)) for line in lines]

    def look(self) -> Look:
        """Return the last recorded state."""
        looks = self.looks()
        return looks[-1] if looks else Look({}, {})

    def logs(self) -> str:
        """Return the end of the cluster's logs, for the message of a failing test."""
        tails = [self._looks.with_suffix(".log").read_text()[-2000:], repr(self.look())]
        for host in (self.head, *self.workers):
            logs = "/tmp/ray/session_latest/logs"
            files = f"{logs}/monitor.* {logs}/ray_client_server* ~/.deltasweep/*.log"
            if host.on:
                tails.append(f"== {host.name}\n" + self.attempt(host, "sh", "-c", f"tail -n 25 {files}").stdout)
        return "\n".join(tails)

    def end(self) -> None:
        """End the processes that this object started on the hosts; the hosts themselves end with the network."""
        for process in self._started:
            process.kill()
            process.wait()

    def node_id(self, host: Host) -> str:
        """Return Ray's id of the node that now runs on a host."""
        (node,) = self.look().nodes_on(host)
        return node

    def give_notice(self, host: Host) -> None:
        """Give a spot notice: the host's metadata server has one, and a watcher polls it."""
        server = ("tests.orchestrator.metadata", "8169")
        watcher = ("orchestrator.nodes.spot_watcher", "--cloud", "aws", "--address", self.address)
        where = ("--node-ip", host.address, "--server", "http://127.0.0.1:8169")
        for module in (server, (*watcher, *where)):
            self._start(host, host.home / f"{module[0]}.out", *module)

    def _start(self, host: Host, output: Path, *module: str) -> None:
        """Run a module on a host until the host ends."""
        with output.open("wb") as file, output.with_suffix(".log").open("ab") as log:
            self._started.append(
                subprocess.Popen(
                    [*host.inside(), sys.executable, "-m", *module],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=log,
                    env=self.environment_on(host),
                )
            )

    def on(self, host: Host, *command: str, **environment: str) -> str:
        """Run a command on a host, which must succeed; return its standard output."""
        done = self.attempt(host, *command, **environment)
        assert done.returncode == 0, f"{command} on {host.name}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout

    def attempt(self, host: Host, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command on a host to its end."""
        return subprocess.run(
            [*host.inside(), *command],
            env=self.environment_on(host) | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def environment_on(self, host: Host) -> dict[str, str]:
        """Return the environment of a login on the host."""
        kept = {name: os.environ[name] for name in ("LANG", "LC_ALL") if name in os.environ}
        return {**kept, "HOME": str(Path.home()), "USER": "root", "SHELL": "/bin/bash", **self.environment}

    def _write_profile(self, host: Host) -> None:
        lines = [f"export {name}='{value}'" for name, value in self.environment.items()]
        (host.home / ".bash_profile").write_text("\n".join(lines) + "\n")

    def _config(self) -> dict[str, Any]:
        """Return the packaged file with these hosts; the package is already installed, and devices are logical."""
        config: dict[str, Any] = yaml.safe_load(LOCAL.read_text())
        config["provider"] |= {"head_ip": self.head.address, "worker_ips": [w.address for w in self.workers]}
        config["auth"] = {"ssh_user": "root", "ssh_private_key": str(self.network.keys / "user")}
        config["min_workers"] = config["max_workers"] = len(self.workers)
        del config["setup_commands"]
        mounts = config["file_mounts"].items()
        config["file_mounts"] = {there: here for there, here in mounts if not here.startswith("dist/")}
        head, worker = config["head_start_ray_commands"], config["worker_start_ray_commands"]
        config["head_start_ray_commands"] = [command + f" {_OBJECT_STORE}" for command in head]
        config["worker_start_ray_commands"] = [
            f"{command} --num-cpus={CPUS} --num-gpus={GPUS} {_OBJECT_STORE}" for command in worker
        ]
        return config
