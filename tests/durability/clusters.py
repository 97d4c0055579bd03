"""A Ray cluster of several nodes on this machine, for one test."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.durability.processes import Process, alive, descendants, kill, wait_until

REPOSITORY = Path(__file__).parents[2]


class Node(NamedTuple):
    """A node of the cluster: Ray's id and its raylet."""

    node: str
    raylet: Process

    def family(self) -> list[Process]:
        """Return the worker processes of this node."""
        return descendants(self.raylet.pid) if alive(self.raylet) else []


class TestCluster:
    """A cluster that starts with a head; nodes are added and removed. It runs in its own process (``cluster_host``)."""

    __test__ = False

    def __init__(self, environment: Mapping[str, str], log: Path, head_cpus: int) -> None:
        self._seen: set[Process] = set()
        self._log = log
        with log.open("wb") as errors:
            self._host = subprocess.Popen(
                [sys.executable, "-m", "tests.durability.cluster_host", str(head_cpus)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                cwd=REPOSITORY,
                start_new_session=True,
            )
        self.environment = dict(environment)
        first = self._answer()
        self.address: str = first["address"]
        self.head = self._node(first)

    def add(self, cpus: int) -> Node:
        """Add a node."""
        return self._node(self._ask(add=cpus))

    def remove(self, node: Node) -> None:
        """End the rest of a node whose raylet was killed."""
        self._ask(remove=node.node)

    def drain(self, node: Node, deadline_seconds: int) -> None:
        """Simulate a spot notice: tell Ray that the node will be preempted."""
        subprocess.run(
            [
                str(Path(sys.executable).parent / "ray"),
                "drain-node",
                *("--address", self.address, "--node-id", node.node),
                *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot notice of a test"),
                *("--deadline-remaining-seconds", str(deadline_seconds)),
            ],
            env=self.environment,
            check=True,
            timeout=120,
        )

    def family(self) -> list[Process]:
        found = descendants(self._host.pid)
        self._seen |= set(found)
        return found

    def end(self) -> None:
        """End every process of the cluster."""
        self.family()
        assert self._host.stdin is not None
        assert self._host.stdout is not None
        self._host.kill()
        self._host.wait()
        self._host.stdin.close()
        self._host.stdout.close()
        for process in self._seen:
            kill(process)
        wait_until(lambda: not any(map(alive, self._seen)), "the cluster's processes ended", 30)

    def _node(self, facts: dict[str, Any]) -> Node:
        (raylet,) = [process for process in self.family() if process.pid == facts["raylet"]]
        return Node(facts["node"], raylet)

    def _ask(self, **command: Any) -> dict[str, Any]:
        assert self._host.stdin is not None
        self._host.stdin.write((json.dumps(command) + os.linesep).encode())
        self._host.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._host.stdout is not None
        line = self._host.stdout.readline()
        assert line, f"the cluster did not start:\n{self._log.read_text()}"
        answer: dict[str, Any] = json.loads(line)
        return answer
