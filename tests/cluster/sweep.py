"""A study on a test cluster: real ``deltasweep`` processes on its hosts, their trace, and the root's content."""

import json
from pathlib import Path
from typing import Any

from jobs.results import open_store
from tests.another_finetuning import trials_in
from tests.cluster.hosts import Host
from tests.cluster.ray_cluster import RayCluster
from tests.durability.sweep import Batch, Rows, Run, disturb, read_trace, rows
from tests.durability.watched import WatchedSpec

BATCH_SECONDS = 0.5
"""Delay added to each batch: a trial takes about 6 s and little CPU time."""
FRACTION = 0.5

STUDY = f"""
name: cluster
watched:
  {{source: [fmnist_natural, fmnist_l2_eps1], dataset: [digits], blocks: [0, 3, 9], images: [60, 100], epochs: 8,
    seeds: 3, evaluate_every: 8, recipe: {{batch_size: 64}}, resources: {{gpu: {FRACTION}, cpu: 1}}}}
"""


class ClusterSweep:
    """36 trials in a results root that every host can reach."""

    def __init__(self, shared: Path, root: str) -> None:
        """
        Args:
            shared: A folder that every host sees at the same path.
            root: A directory in it, or a prefix in a bucket.
        """
        self.root = root
        self.store = open_store(root)
        self.control = control_of(shared)
        self.runs: list[Run] = []
        self.study = shared / "study.yaml"
        self.study.write_text(STUDY)
        self.specs = {spec.trial_id: spec for spec in trials_in(WatchedSpec, self.study)}
        self.disturb()

    def disturb(self, seconds: float = BATCH_SECONDS) -> None:
        """Set the delay of every batch from now on."""
        disturb(self.control, seconds)

    def start(self, cluster: RayCluster, host: Host, verb: str, *options: str) -> Run:
        """Start ``launch`` or ``resume`` on a host."""
        arguments = (verb, *((str(self.study),) if verb == "launch" else ()), *options, "--results", self.root)
        output = self.control / f"output-{len(self.runs)}"
        self.runs.append(Run(arguments, cluster.environment_on(host), output, host.inside()))
        return self.runs[-1]

    # -- state

    def trace(self) -> list[Batch]:
        """Return all batches that have begun so far, on all hosts."""
        return read_trace(self.control)

    def done(self) -> set[str]:
        return {Path(key).stem for key in self.store.keys("trials")}

    def running_on(self, host: Host) -> set[str]:
        """Return the trials whose last batch began on this host and that are not done."""
        return {trial for trial, name in {b.trial: b.host for b in self.trace()}.items() if name == host.name} - (
            self.done()
        )

    def saved(self, trials: set[str]) -> set[str]:
        """Return those of the trials that have a checkpoint."""
        return trials & {key.split("/")[1] for key in self.store.keys("checkpoints")}

    def hosts_of(self, trial: str) -> list[str]:
        """Return the hosts that worked on a trial, in order."""
        return list(dict.fromkeys(b.host for b in self.trace() if b.trial == trial))

    def failures(self) -> list[dict[str, Any]]:
        return [json.loads(self.store.read(key)) for key in self.store.keys("failures")]

    # -- checks

    def require_same_as(self, reference: Rows) -> None:
        """Require each trial of the study once, with the reference's numbers bit for bit, and no leftover files."""
        found = rows(self.root)
        assert found.keys() == self.specs.keys()
        assert found == reference, "a trial has other numbers than undisturbed"
        assert len(self.done()) == len(list(self.store.keys("trials")))
        assert not list(self.store.keys("conflicts")), "there are conflicts"
        assert not list(self.store.keys("checkpoints")), "checkpoints of done trials are left"
        assert {b.trial for b in self.trace()} == self.specs.keys()

    def summary(self) -> str:
        """Return a summary for readers of the test log."""
        trace = self.trace()
        once = {(b.trial, b.epoch, b.batch) for b in trace}
        by_host: dict[str, int] = {}
        for batch in trace:
            by_host[batch.host] = by_host.get(batch.host, 0) + 1
        return (
            f"{len(self.specs)} trials, {len(trace)} batches, {len(trace) - len(once)} of them twice; "
            f"by host {dict(sorted(by_host.items()))}; failures recorded: {len(self.failures())}"
        )


def control_of(shared: Path) -> Path:
    """Return the folder where watched trials find their instructions and write their trace."""
    folder = shared / "control"
    folder.mkdir(exist_ok=True)
    return folder
