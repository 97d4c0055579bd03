"""``gpu: auto`` in clusters of logical GPUs, and shares that grow after a lack of memory."""

import os
import subprocess
import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import pytest
import ray
import torch

from jobs.errors import Code
from jobs.execution.retention import RetentionPolicy
from jobs.results import FailureKind
from jobs.specs.section import Resources
from jobs.study.expand import expand
from orchestrator.failures.outcomes import Outcome, State
from orchestrator.failures.retry_policy import RetryPolicy
from orchestrator.launching.retries import Retries
from orchestrator.planning.gpu_shares import even_share
from orchestrator.planning.gpu_table import Device, GpusUnknown
from orchestrator.planning.stages import StageTrials, stages_of
from orchestrator.ray_tune import gpu_share, tuner
from orchestrator.ray_tune.gpu_share import cluster_gpus, resolved
from orchestrator.ray_tune.tuner import largest_multiple, multiple_of
from orchestrator.study.load import load_study, parse_study
from tests.machine import with_proc_environ
from tests.support import refused

GB = 1e9
MEMORY = Outcome(State.FAILED, (), FailureKind.MEMORY, "OutOfMemoryError: full")


@pytest.mark.parametrize(
    ("needed", "card", "expected"),
    [(6, 24, 0.25), (6.1, 24, 0.3333), (12, 24, 0.5), (13, 24, 1), (30, 24, 1), (3, 24, 0.125), (24 / 7, 24, 0.1428)],
)
def test_even_shares(needed: float, card: float, expected: float) -> None:
    share = even_share(needed * GB, card * GB)
    assert share == expected
    assert share * round(1 / share) <= 1, "as many fit as Ray counts"


def stage(gpu: float | Literal["auto"], needed: float) -> StageTrials:
    return StageTrials(["a"], Resources(gpu=gpu, cpu=2), RetentionPolicy(1), needed * GB, "use a larger GPU")


def auto(needed: float, *cards: float) -> tuple[Resources, list[str]]:
    said: list[str] = []
    devices = [Device("a card", gb * GB) for gb in cards]
    return resolved(stage("auto", needed), said.append, lambda: devices), said


def test_the_smallest_card_decides() -> None:
    resources, said = auto(6, 80, 24, 48)
    assert (resources.gpu, resources.cpu) == (0.25, 2)
    assert ["0.25" in line and "24 GB" in line for line in said] == [True]


def test_a_card_that_is_too_small_is_told() -> None:
    resources, said = auto(20, 80, 16)
    assert resources.gpu == 1
    assert [line.startswith("Warning: ") for line in said] == [False, True]
    assert "trials of about 20 GB, and 16 GB on the smallest GPU. They may fail. Fix: use a larger GPU." in said[1]


def test_without_gpus_trials_run_on_cpus() -> None:
    resources, said = auto(6)
    assert resources.gpu == 0
    assert ["no GPUs" in line for line in said] == [True]


def test_a_number_is_not_changed_and_nothing_is_asked() -> None:
    def asked() -> Sequence[Device]:
        raise AssertionError

    given = stage(0.3, 6)
    assert resolved(given, print, asked) is given.resources


def test_a_cluster_without_machines_is_told_to_give_a_number() -> None:
    def none_runs() -> Sequence[Device]:
        raise GpusUnknown("no machine of this cluster can run trials yet")

    with refused(Code.CLUSTER_TOO_SMALL, "no machine", "give a number", key="resources.gpu"):
        resolved(stage("auto", 1), print, none_runs)


class Cluster:
    """Ray's view of machines, and what they answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: dict[str, list[Device]], **machines: Any) -> None:
        self.asked: dict[str, int] = {}
        nodes = [{"NodeID": name, "Alive": True, "Resources": resources} for name, resources in machines.items()]
        monkeypatch.setattr(ray, "nodes", lambda: nodes)
        monkeypatch.setattr(ray, "remote", lambda **options: lambda function: self)
        monkeypatch.setattr(ray, "get", lambda tasks, timeout: [answers[name] for name in tasks])

    def options(self, scheduling_strategy: Any) -> SimpleNamespace:
        assert not scheduling_strategy.soft

        def remote(gpus: int) -> str:
            self.asked[scheduling_strategy.node_id] = gpus
            return str(scheduling_strategy.node_id)

        return SimpleNamespace(remote=remote)


A, B, C = "a" * 56, "b" * 56, "c" * 56


def test_every_machine_with_gpus_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = {A: {"CPU": 8, "GPU": 2}, B: {"CPU": 8}, C: {"CPU": 8, "GPU": 1}}
    a10, t4 = Device("NVIDIA A10", 24.0), Device("Tesla T4", 16.0)
    cluster = Cluster(monkeypatch, {A: [a10, a10], C: [t4]}, **machines)
    assert cluster_gpus() == [a10, a10, t4]
    assert cluster.asked == {A: 2, C: 1}


class Card(NamedTuple):
    """Properties of a GPU."""

    total_memory: int

    @property
    def name(self) -> str:
        return f"card of {self.total_memory}"


@pytest.mark.parametrize(
    ("daemon", "own", "gpus", "expected"),
    [
        ({}, None, 4, [80, 24, 16, 8]),
        ({}, "", 4, [80, 24, 16, 8]),
        ({}, None, 2, [80, 24]),
        ({"CUDA_VISIBLE_DEVICES": "2,1"}, "", 2, [16, 24]),
        ({"CUDA_VISIBLE_DEVICES": "2,1"}, "2,1", 1, [16]),
        ({"CUDA_VISIBLE_DEVICES": "3"}, "", 2, [8]),
        ({"CUDA_VISIBLE_DEVICES": ""}, None, 1, []),
        (None, "1", 1, [24]),
    ],
)
def test_a_machine_names_the_gpus_that_ray_gives_to_actors(
    daemon: dict[str, str] | None, own: str | None, gpus: int, expected: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of those that the user hid from Ray, nor of those beyond the number that Ray was started with."""

    def seen() -> list[Card]:
        cards = [Card(80), Card(24), Card(16), Card(8)]
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        return cards if visible is None else [cards[int(number)] for number in visible.split(",") if number]

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", own or "")
    if own is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(gpu_share, "daemon_environment", lambda: daemon)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(seen()))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: seen()[number])
    assert gpu_share.gpus_here(gpus) == [Device(f"card of {total}", total) for total in expected]


@with_proc_environ
def test_the_environment_of_the_daemon_is_that_of_the_parent() -> None:
    code = 'from orchestrator.ray_tune.gpu_share import daemon_environment as e; print(e()["CUDA_VISIBLE_DEVICES"])'
    done = subprocess.run(
        ["sh", "-c", 'CUDA_VISIBLE_DEVICES= "$0" -c "$1"; true', sys.executable, code],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "2,1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "2,1\n", done.stderr


def test_an_idle_head_is_no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    Cluster(monkeypatch, {}, **{A: {"memory": 1.0}})
    with pytest.raises(GpusUnknown, match="no machine"):
        cluster_gpus()


def test_a_machine_whose_gpus_torch_does_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    Cluster(monkeypatch, {A: []}, **{A: {"CPU": 8, "GPU": 1}})
    with pytest.raises(GpusUnknown, match="torch sees no GPU"):
        cluster_gpus()


STUDY = """
name: mini
grid: {source: [fmnist_natural], dataset: [digits], blocks: [0, 3]}
schedule: [{images: [30], epochs: 4, seeds: 1, evaluate_every: 2}]
"""


def test_auto_changes_no_id_and_is_refused_if_misspelt() -> None:
    plain = parse_study(STUDY, "s.yaml")
    study = parse_study(STUDY + "resources: {gpu: auto}\n", "s.yaml")
    assert study.resources.gpu == "auto"
    assert [spec.trial_id for spec in expand(study)] == [spec.trial_id for spec in expand(plain)]
    with refused(Code.WRONG_VALUE, "auto", "Fix: write 0.5", key="resources.gpu"):
        parse_study(STUDY + "resources: {gpu: '0.5'}\n", "s.yaml")
    for wrong in ("automatic", "-1", "yes", "[1]"):
        with refused(Code.WRONG_VALUE, "auto", key="resources.gpu"):
            parse_study(STUDY + f"resources: {{gpu: {wrong}}}\n", "s.yaml")


def test_stages_say_the_memory_of_their_largest_actor() -> None:
    study = load_study("paper-influence")
    specs = {spec.trial_id: spec for spec in expand(study)}
    tuned, *examined = stages_of(study, specs, list(specs))
    largest = max(stage.memory for stage in examined)
    assert 1e9 < tuned.memory < largest, "matrices count"


@pytest.mark.parametrize(
    ("share", "machine", "shares"),
    [
        ({"CPU": 1, "GPU": 0.25}, {"CPU": 4, "GPU": 1}, [0.25, 0.5, 1]),
        ({"CPU": 4, "GPU": 0.25}, {"CPU": 4, "GPU": 1}, [0.25, 0.5, 1]),
        ({"CPU": 1, "GPU": 0.35}, {"CPU": 8, "GPU": 8}, [0.35, 0.7, 1]),
        ({"CPU": 1, "GPU": 0.3}, {"CPU": 8, "GPU": 2}, [0.3, 0.6, 1]),
        ({"CPU": 1, "GPU": 1}, {"CPU": 8, "GPU": 1}, [1]),
        ({"CPU": 1, "GPU": 1}, {"CPU": 8, "GPU": 4}, [1, 2, 4]),
        ({"CPU": 1}, {"CPU": 3}, [1, 2, 3]),
    ],
)
def test_shares_grow_to_a_whole_gpu(
    share: dict[str, float], machine: dict[str, float], shares: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial that runs out of memory every time; the last attempt has a whole GPU, or the machine."""
    monkeypatch.setattr(tuner, "_nodes", lambda: [{"CPU": 64.0}, machine] if "GPU" in share else [machine])
    retries = Retries(["a"], RetryPolicy(), lambda: largest_multiple(share))
    had = []
    while this := retries.next_round():
        grown = multiple_of(share, this.share)
        had.append(grown["GPU" if "GPU" in share else "CPU"])
        assert all(amount <= machine[name] for name, amount in grown.items())
        retries.record({"a": MEMORY}, set())
    assert had == shares
    assert "largest share" in retries.given_up["a"]
