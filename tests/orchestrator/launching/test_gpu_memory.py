"""Launches on GPUs that refuse memory: what is retried, with which share, and in which processes.

The processor stands for the GPU, and a counter for its allocator, in launches without Ray.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from jobs.data import device_images
from jobs.execution.gpu_memory import refusals
from jobs.kinds.finetune.trial import Finetuning
from jobs.results import FailureKind, Store, comparable_columns, open_store, read_failures, read_trials
from jobs.specs.trial import TrialSpec
from jobs.study.model import Study
from orchestrator.launching.launch import launch
from orchestrator.ray_tune import trainable, tuner
from orchestrator.study.load import parse_study
from tests.orchestrator.in_process import replace_ray

QUIET = Console(quiet=True)
STUDY = """
name: shared
grid: {source: [fmnist_natural], dataset: [digits], blocks: [0, 1, 3]}
schedule: [{images: [30], epochs: 2, seeds: 1, evaluate_every: 2}]
bundle: blocks
resources: {gpu: 0.25}
"""


class Cluster:
    """A launch's rounds and its actors, each a new process, with shares of one GPU."""

    def __init__(self) -> None:
        self.refused = 0
        self.share = 0.0
        self.rounds: list[tuple[float, list[int]]] = []
        self.planned = set[float]()
        self.images: list[bool] = []
        """Whether images may stay on the GPU, by round."""
        self.actors_without_images = 0
        self.recovered = 0


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cluster:
    cluster = Cluster()
    replace_ray(monkeypatch, tmp_path)
    run_round = tuner.run_round

    def noted(bundles: Sequence[Sequence[TrialSpec]], job: dict[str, Any], share: tuner.Share, state: Any) -> None:
        cluster.rounds.append((share["GPU"], [len(bundle) for bundle in bundles]))
        cluster.images.append(job["images_on_gpu"])
        run_round(bundles, job, share, state)

    def device(share: float, planned: float) -> torch.device:
        cluster.refused, cluster.share = 0, share
        monkeypatch.setattr(refusals, "_raised", 0)
        cluster.planned.add(planned)
        return torch.device("cpu")

    def keep_no_images(device: torch.device) -> None:
        cluster.actors_without_images += 1

    def recover(device: torch.device) -> None:
        assert device_images._latest == []
        cluster.recovered += 1

    monkeypatch.setattr(refusals, "_count", lambda device: cluster.refused)
    monkeypatch.setattr(trainable, "shared_device", device)
    monkeypatch.setattr(trainable, "keep_no_images", keep_no_images)
    monkeypatch.setattr(trainable, "recover", recover)
    monkeypatch.setattr(tuner, "run_round", noted)
    monkeypatch.setattr(tuner, "share_of", lambda resources, say: {"CPU": 1, "GPU": resources.gpu})
    monkeypatch.setattr(tuner, "largest_multiple", lambda share: 4)
    return cluster


def study() -> Study:
    return parse_study(STUDY, "study.yaml")


def numbers(store: Store) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = read_trials(store, "finetune").select(comparable_columns("finetune")).to_pylist()
    return rows


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """The numbers on a GPU that refuses nothing."""
    folder = tmp_path_factory.mktemp("expected")
    store = open_store(folder / "root")
    with pytest.MonkeyPatch.context() as patch:
        replace_ray(patch, folder)
        assert launch(study(), store, QUIET).done == 3
    return numbers(store)


def refuse(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, below: float, silently: bool) -> None:
    """Let trials with three blocks need more memory than shares below this one have."""
    original = Finetuning.learn

    def learn(self: Finetuning, logits_NK: Tensor, labels_N: Tensor) -> None:
        if self.spec.blocks == 3 and cluster.share < below:
            cluster.refused += 1
            if not silently:
                raise torch.OutOfMemoryError("CUDA out of memory")
            with torch.no_grad():
                logits_NK.add_(1e-3 * torch.randn(logits_NK.shape))  # what another algorithm computes
        original(self, logits_NK, labels_N)

    monkeypatch.setattr(Finetuning, "learn", learn)


def test_another_algorithm_costs_time_and_never_a_number(
    cluster: Cluster, expected: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A whole bundle is in doubt; then each trial runs alone, one at last with half of the card."""
    refuse(cluster, monkeypatch, below=0.5, silently=True)
    store = open_store(tmp_path / "root")
    assert launch(study(), store, QUIET).done == 3
    assert numbers(store) == expected
    assert cluster.rounds == [(0.25, [3]), (0.25, [1, 1, 1]), (0.5, [1])]
    assert cluster.images == [True, False, False]
    assert cluster.actors_without_images == 4
    assert {failure.kind for failure in read_failures(store)} == {FailureKind.MEMORY}
    assert len(cluster.planned) == 1
    assert min(cluster.planned) > 0.6e9
    assert cluster.recovered == 2


def test_a_trial_that_runs_out_of_memory_leaves_its_bundle_then_has_more(
    cluster: Cluster, expected: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refuse(cluster, monkeypatch, below=1, silently=False)
    store = open_store(tmp_path / "root")
    assert launch(study(), store, QUIET).done == 3
    assert numbers(store) == expected
    assert cluster.rounds == [(0.25, [3]), (0.25, [1]), (0.5, [1]), (1, [1])]


def test_a_machine_that_came_and_went_during_a_round_counts(
    cluster: Cluster, expected: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A spot machine: the cluster gets another one when trials wait for it."""
    refuse(cluster, monkeypatch, below=1, silently=False)
    run_round, here = tuner.run_round, [1]

    def for_a_while(*given: Any) -> None:
        here[0] = 1 if cluster.rounds else 4
        run_round(*given)
        here[0] = 1

    monkeypatch.setattr(tuner, "largest_multiple", lambda share: here[0])
    monkeypatch.setattr(tuner, "run_round", for_a_while)
    store = open_store(tmp_path / "root")
    assert launch(study(), store, QUIET).done == 3
    assert numbers(store) == expected
    assert cluster.rounds == [(0.25, [3]), (0.25, [1]), (0.5, [1]), (1, [1])]


def test_what_no_card_can_hold_is_given_up(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refuse(cluster, monkeypatch, below=2, silently=True)
    store = open_store(tmp_path / "root")
    summary = launch(study(), store, QUIET)
    assert (summary.done, len(summary.failed)) == (2, 1)
    assert all("largest share" in reason and "WorkspaceRefused" in reason for reason in summary.failed.values())
