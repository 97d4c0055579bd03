"""A GPU that refuses memory without an error, as to cuDNN: no number computed then or later is ever saved.

The processor stands for the GPU, and a counter for its allocator.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from jobs.catalog.catalog import PACKAGED
from jobs.data.datasets import Dataset
from jobs.execution.bundles import attempt_bundle
from jobs.execution.commit import Attempt
from jobs.execution.gpu_memory import WorkspaceRefused, refusals
from jobs.execution.retention import RetentionPolicy
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.kinds.finetune.trial import Finetuning
from jobs.models.weights import SourceWeights
from jobs.paths import activations_directory
from jobs.results import Store, done, open_store
from jobs.results.layout import checkpoint_position, checkpoints_prefix
from tests.jobs.support import CPU, finetune_spec

pytestmark = pytest.mark.usefixtures("short_tests")

EVERY_EPOCH = RetentionPolicy(checkpoint_every=1)


class Gpu:
    """The refusals of a GPU in one process."""

    def __init__(self) -> None:
        self.refused = 0
        self.failed: dict[str, Exception] = {}

    def attempt(self, store: Store, specs: Sequence[FinetuneSpec]) -> None:
        attempts = {spec.trial_id: Attempt() for spec in specs}
        attempt_bundle(
            store, specs, PACKAGED, CPU, attempts, EVERY_EPOCH, lambda: False, self.failed.__setitem__
        )  # fmt: skip


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    gpu = Gpu()
    monkeypatch.setattr(refusals, "_count", lambda device: gpu.refused)
    monkeypatch.setattr(refusals, "_raised", 0)
    return gpu


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "root")


def refuse_at(
    position: tuple[int, int], gpu: Gpu, monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception] | None = None
) -> None:
    """Refuse memory in the head of the trial with three blocks at this epoch and batch."""
    original = Finetuning.learn

    def learn(self: Finetuning, logits_NK: Tensor, labels_N: Tensor) -> None:
        if self.position == position and self.spec.blocks == 3:
            gpu.refused += 1
            if error is not None:
                raise error()
        original(self, logits_NK, labels_N)

    monkeypatch.setattr(Finetuning, "learn", learn)


def positions(store: Store, spec: FinetuneSpec) -> list[tuple[int, int] | None]:
    return [checkpoint_position(key) for key in store.keys(checkpoints_prefix(spec.trial_id))]


def depths(*blocks: int) -> list[FinetuneSpec]:
    return [finetune_spec(blocks=each, epochs=3) for each in blocks]


def test_a_trial_keeps_nothing_of_a_doubtful_batch(store: Store, gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused in the second epoch: the checkpoint after the first stays, and nothing comes after it."""
    (spec,) = depths(3)
    refuse_at((2, 1), gpu, monkeypatch)
    gpu.attempt(store, [spec])
    assert isinstance(gpu.failed[spec.trial_id], WorkspaceRefused)
    assert positions(store, spec) == [(2, 0)]
    assert not done(store, "finetune")


def test_all_trials_of_a_bundle_are_in_doubt(store: Store, gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later convolutions of equal shapes, in any trial, run by the algorithm that was chosen instead."""
    specs = depths(0, 1, 3)
    refuse_at((2, 1), gpu, monkeypatch)
    gpu.attempt(store, specs)
    assert {type(error) for error in gpu.failed.values()} == {WorkspaceRefused}
    assert [positions(store, spec) for spec in specs] == [[(2, 0)]] * 3
    assert not done(store, "finetune")


def test_the_process_computes_no_other_trial(store: Store, gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = depths(3, 1)
    refuse_at((1, 0), gpu, monkeypatch)
    gpu.attempt(store, [first])
    gpu.attempt(store, [other])
    assert isinstance(gpu.failed[other.trial_id], WorkspaceRefused)
    assert (positions(store, other), done(store, "finetune")) == ([], set())


def test_an_ordinary_lack_of_memory_costs_the_others_nothing(
    store: Store, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch's error for one refusal: the trial leaves, the bundle goes on, and the process stays in use."""
    specs = depths(0, 1, 3)
    refuse_at((2, 1), gpu, monkeypatch, lambda: torch.OutOfMemoryError("CUDA out of memory"))
    gpu.attempt(store, specs)
    assert {trial: type(error) for trial, error in gpu.failed.items()} == {specs[2].trial_id: torch.OutOfMemoryError}
    assert done(store, "finetune") == {spec.trial_id for spec in specs[:2]}


def test_no_algorithm_left_is_reported_as_a_lack_of_memory(
    store: Store, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = depths(0, 3)
    refuse_at((1, 1), gpu, monkeypatch, lambda: RuntimeError("GET was unable to find an engine"))
    gpu.attempt(store, specs)
    error = gpu.failed[specs[1].trial_id]
    assert isinstance(error, WorkspaceRefused)
    assert "unable to find an engine" in str(error)


def test_no_file_of_activations_is_written_from_them(
    gpu: Gpu, weights: SourceWeights, few_digits: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DELTASWEEP_HOME", str(tmp_path / "home"))
    gpu.refused = 1
    trial = Finetuning(finetune_spec({"frozen_batchnorm": "source"}, blocks=1), weights, few_digits, CPU)
    with pytest.raises(WorkspaceRefused):
        trial.advance()
    assert list(activations_directory().rglob("*.npy")) == []
