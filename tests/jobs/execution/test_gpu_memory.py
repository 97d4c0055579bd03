"""GPU memory that trials share: refused requests, limits and settings, with counted refusals instead of a GPU."""

import os

import pytest
import torch

from jobs.execution import gpu_memory
from jobs.execution.device import shared_device
from jobs.execution.gpu_memory import (
    ALLOCATOR_VARIABLES,
    Refusals,
    WorkspaceRefused,
    allowed_bytes,
    images_room,
    is_out_of_memory,
    says_out_of_memory,
    set_environment,
    set_limit,
)
from jobs.execution.optimizers import fuses_steps
from jobs.system.memory import GPU_RUNTIME_BYTES

CPU = torch.device("cpu")


class Allocator:
    """An allocator whose refusals a test counts."""

    def __init__(self) -> None:
        self.refused = 0

    def __call__(self, device: torch.device) -> int:
        return self.refused


@pytest.fixture
def allocator() -> Allocator:
    return Allocator()


@pytest.fixture
def refusals(allocator: Allocator) -> Refusals:
    return Refusals(allocator)


def test_a_refusal_without_an_error_spoils_the_process_for_good(allocator: Allocator, refusals: Refusals) -> None:
    refusals.require_none(CPU)
    allocator.refused += 1
    for _ in range(2):
        with pytest.raises(WorkspaceRefused, match="workspaces of all convolutions"):
            refusals.require_none(CPU)
    assert refusals.silent(CPU)


def test_a_refusal_that_ended_a_trial_spoils_nothing(allocator: Allocator, refusals: Refusals) -> None:
    for number in range(1, 4):
        allocator.refused = number
        error = torch.OutOfMemoryError("CUDA out of memory")
        assert refusals.caught(error, CPU) is error
        refusals.require_none(CPU)


def test_refusals_before_the_one_that_ended_a_trial_are_not_forgotten(allocator: Allocator, refusals: Refusals) -> None:
    allocator.refused = 3  # two algorithms were passed over, then an activation did not fit
    refusals.caught(torch.OutOfMemoryError("CUDA out of memory"), CPU)
    assert refusals.silent(CPU)


def test_an_error_that_was_not_counted_excuses_no_later_refusal(allocator: Allocator, refusals: Refusals) -> None:
    refusals.caught(torch.OutOfMemoryError("tried to allocate more than 1EB"), CPU)
    allocator.refused += 1
    assert refusals.silent(CPU)


def test_no_algorithm_left_is_a_lack_of_memory(allocator: Allocator, refusals: Refusals) -> None:
    error = RuntimeError("GET was unable to find an engine to execute this computation")
    assert refusals.caught(error, CPU) is error, "nothing was refused: the network is at fault"
    allocator.refused += 5
    reported = refusals.caught(error, CPU)
    assert isinstance(reported, WorkspaceRefused)
    assert reported.__cause__ is error
    assert is_out_of_memory(reported)


def test_a_full_card_may_have_refused_what_nobody_counts(refusals: Refusals) -> None:
    refusals.caught(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), CPU)
    assert not refusals.silent(CPU)
    error = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    assert refusals.caught(error, CPU) is error
    assert refusals.silent(CPU)


def test_this_process_has_no_gpu_that_refuses() -> None:
    assert not gpu_memory.refusals.silent(CPU)


MESSAGES = (
    "CUDA error: out of memory",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
    "jobs.execution.gpu_memory.WorkspaceRefused: expected enough",
    "DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes",
)


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_of_exhausted_memory(message: str) -> None:
    assert says_out_of_memory(message)
    assert is_out_of_memory(RuntimeError(message))


@pytest.mark.parametrize("message", ["CUDA error: an illegal memory access was encountered", "memory format", ""])
def test_messages_of_something_else(message: str) -> None:
    assert not says_out_of_memory(message)


@pytest.mark.parametrize("share", [0.5, 0.25, 1 / 3])
def test_the_processes_of_a_card_together_take_at_most_the_card(share: float) -> None:
    card = 24e9
    assert round(1 / share) * (allowed_bytes(card, share) + GPU_RUNTIME_BYTES) == pytest.approx(card)


def test_limits_of_whole_cards_and_of_shares_below_the_runtime() -> None:
    assert allowed_bytes(24e9, 1) == allowed_bytes(24e9, 2) == 24e9
    assert allowed_bytes(24e9, 0.01) == 0


def test_without_a_gpu_nothing_is_limited_and_no_image_stays() -> None:
    set_limit(CPU, 0.25, 1e9)
    assert images_room(CPU) == 0
    assert shared_device(0, 1e9) == CPU


class Card:
    """Properties of a card of 16 GB."""

    total_memory = 16_000_000_000


@pytest.mark.parametrize(
    ("share", "fraction", "room"), [(0.25, 0.25 - 0.6 / 16, 1.5e9), (1, 1.0, 7.5e9), (2, 1.0, 7.5e9), (0.05, 0.0125, 0)]
)
def test_the_limit_of_a_share_and_what_images_may_take_of_it(
    share: float, fraction: float, room: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 1 GB planned for the trial."""
    limits, device = list[float](), torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Card)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda part, device: limits.append(part))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(gpu_memory, "_images_room", {})
    assert images_room(device) == 4_000_000_000, "not planned"
    set_limit(device, share, 1e9)
    assert limits == [pytest.approx(fraction)]
    assert images_room(device) == pytest.approx(room)
    gpu_memory.recover(device)
    set_limit(device, share, 1e9)
    assert images_room(device) == 0, "a trial of this process has run out of memory"


@pytest.fixture
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*ALLOCATOR_VARIABLES, "CUBLAS_WORKSPACE_CONFIG"):
        monkeypatch.setenv(variable, "x")  # so that it is restored
        monkeypatch.delenv(variable)


@pytest.mark.usefixtures("_environment")
@pytest.mark.parametrize("variable", ALLOCATOR_VARIABLES)
def test_the_users_allocator_is_kept_and_the_workspaces_are_ours(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "max_split_size_mb:64")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    set_environment()
    assert {name: os.environ.get(name) for name in ALLOCATOR_VARIABLES if name in os.environ} == {
        variable: "max_split_size_mb:64"
    }
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


@pytest.mark.usefixtures("_environment")
def test_without_settings_segments_expand() -> None:
    set_environment()
    assert os.environ["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    assert "PYTORCH_CUDA_ALLOC_CONF" not in os.environ


def test_steps_are_fused_on_gpus_only_and_not_in_float16() -> None:
    gpu = torch.device("cuda", 1)
    assert fuses_steps("float32", gpu)
    assert fuses_steps("bfloat16", gpu)
    assert not fuses_steps("float16", gpu)
    assert not fuses_steps("float32", CPU)
