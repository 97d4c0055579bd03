"""A study on a test cluster: real ``deltasweep`` processes on its hosts, the trace they leave, what the root says."""

import json
from pathlib import Path
from typing import Any

from jobs.expansion import expand
from jobs.results import open_store
from orchestrator.study_files import load_study
from tests.cluster.hosts import Host
from tests.cluster.ray_cluster import RayCluster
from tests.durability.sweep import Batch, Rows, Run, disturb, read_trace, rows

BATCH_SECONDS = 0.5
"""Added to each batch: a trial takes about 6 s, and little of the processor."""
FRACTION = 0.5

STUDY = f"""
name: cluster
grid: {{source: [fmnist_natural, fmnist_l2_eps1], dataset: [digits], blocks: [0, 3, 9]}}
schedule:
  - {{images: [60, 100], epochs: 8, seeds: 3, evaluate_every: 8}}
recipe: {{batch_size: 64}}
resources: {{gpu: {FRACTION}, cpu: 1}}
checkpoint_every: 2
"""


class ClusterSweep:
    """36 trials in a results root that every host can reach."""

    def __init__(self, shared: Path, root: str) -> None:
        """
        Args:
            shared: a folder that every host sees in the same place.
            root: a directory in it, or a prefix in a bucket.
        """
        self.root = root
        self.store = open_store(root)
        self.control = control_of(shared)
        self.runs: list[Run] = []
        self.study = shared / "study.yaml"
        self.study.write_text(STUDY)
        self.specs = {spec.trial_id: spec for spec in expand(load_study(str(self.study)))}
        self.disturb()

    def disturb(self, seconds: float = BATCH_SECONDS) -> None:
        """Say how long every batch waits from now on."""
        disturb(self.control, seconds)

    def start(self, cluster: RayCluster, host: Host, verb: str, *options: str) -> Run:
        """Start ``launch`` or ``resume`` on a host."""
        arguments = (verb, *((str(self.study),) if verb == "launch" else ()), *options, "--results", self.root)
        output = self.control / f"output-{len(self.runs)}"
        self.runs.append(Run(arguments, cluster.environment_on(host), output, host.inside()))
        return self.runs[-1]

    # -- what is there

    def trace(self) -> list[Batch]:
        """All batches that began so far, on whichever host."""
        return read_trace(self.control)

    def done(self) -> set[str]:
        return {Path(key).stem for key in self.store.keys("trials")}

    def running_on(self, host: Host) -> set[str]:
        """The trials whose last batch began on this host, and that are not done."""
        return {trial for trial, name in {b.trial: b.host for b in self.trace()}.items() if name == host.name} - (
            self.done()
        )

    def saved(self, trials: set[str]) -> set[str]:
        """Those of the trials that have a checkpoint."""
        return trials & {key.split("/")[1] for key in self.store.keys("checkpoints")}

    def hosts_of(self, trial: str) -> list[str]:
        """The hosts that worked on a trial, in order."""
        return list(dict.fromkeys(b.host for b in self.trace() if b.trial == trial))

    def failures(self) -> list[dict[str, Any]]:
        return [json.loads(self.store.read(key)) for key in self.store.keys("failures")]

    # -- what must hold

    def require_same_as(self, reference: Rows) -> None:
        """Each trial of the study once, with the reference's numbers bit for bit, and nothing left over."""
        found = rows(self.root)
        assert found.keys() == self.specs.keys()
        assert found == reference, "a trial has other numbers than undisturbed"
        assert len(self.done()) == len(list(self.store.keys("trials")))
        assert not list(self.store.keys("conflicts")), "there are conflicts"
        assert not list(self.store.keys("checkpoints")), "checkpoints of done trials are left"
        assert {b.trial for b in self.trace()} == self.specs.keys()

    def summary(self) -> str:
        """For people who read the log of the tests."""
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
    """Where the hook of the kill suite finds what to do, and writes its trace."""
    folder = shared / "control"
    folder.mkdir(exist_ok=True)
    return folder
