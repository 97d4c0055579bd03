"""GPU memory that trials share: refused requests, limits and settings, with counted refusals instead of a GPU."""

import os

import pytest
import torch

from jobs.execution import gpu_memory
from jobs.execution.device import GpuUnusable, default_device, shared_device
from jobs.execution.gpu_memory import (
    ALLOCATOR_VARIABLES,
    Refusals,
    WorkspaceRefused,
    allowed_bytes,
    free_memory,
    images_room,
    is_out_of_memory,
    says_out_of_memory,
    set_environment,
    set_limit,
)
from jobs.execution.optimizers import fuses_steps
from jobs.system import nvidia
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


def test_a_benchmark_can_start_over(allocator: Allocator, refusals: Refusals) -> None:
    allocator.refused = 2
    refusals.caught(RuntimeError("CUDA error: out of memory"), CPU)
    assert refusals.silent(CPU)
    refusals.forget(CPU)
    refusals.require_none(CPU)
    allocator.refused = 3
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
    """Also a whole card has room for what the allocator does not count."""
    assert allowed_bytes(24e9, 1) == allowed_bytes(24e9, 2) == 24e9 - GPU_RUNTIME_BYTES
    assert allowed_bytes(24e9, 0.01) == 0


def test_without_a_gpu_nothing_is_limited_and_no_image_stays() -> None:
    set_limit(CPU, 0.25, 1e9)
    assert images_room(CPU) == 0
    assert shared_device(0, 1e9) == CPU


RUNTIME = 0.6 / 16
"""Part of a card of 16 GB that CUDA itself takes."""


class Card:
    """A card of 16 GB and its allocator, in place of torch's functions."""

    total_memory = 16_000_000_000

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.limits: list[float] = []
        self.free = self.total_memory
        self.allocated = self.reserved = 0
        for name, function in {
            "is_available": lambda: True,
            "current_device": lambda: 0,
            "get_device_properties": lambda device: self,
            "set_per_process_memory_fraction": self._limit,
            "get_per_process_memory_fraction": self._limited,
            "mem_get_info": lambda device: (self.free, self.total_memory),
            "memory_allocated": lambda device: self.allocated,
            "memory_reserved": lambda device: self.reserved,
            "empty_cache": lambda: None,
        }.items():
            monkeypatch.setattr(torch.cuda, name, function)
        monkeypatch.setattr(gpu_memory, "_images_room", {})

    def _limit(self, fraction: float, device: torch.device) -> None:
        _require_index(device)
        self.limits.append(fraction)

    def _limited(self, device: torch.device) -> float:
        _require_index(device)
        return self.limits[-1] if self.limits else 1.0


def _require_index(device: torch.device) -> None:
    """Refuse a GPU without an index, as torch does where it has no default."""
    if device.index is None:
        raise ValueError(f"Expected a torch.device with a specified index or an integer, but got:{device}")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    return Card(monkeypatch)


def test_the_device_of_this_process_has_an_index_and_room_for_cuda(card: Card) -> None:
    assert default_device() == torch.device("cuda", 0)
    assert card.limits == [pytest.approx(1 - RUNTIME)]


@pytest.mark.parametrize(
    ("share", "fraction", "room"),
    [(0.25, 0.25 - RUNTIME, 1.5e9), (1, 1 - RUNTIME, 7.5e9), (2, 1 - RUNTIME, 7.5e9), (0.05, 0.0125, 0)],
)
def test_the_limit_of_a_share_and_what_images_may_take_of_it(
    share: float, fraction: float, room: float, card: Card
) -> None:
    """With 1 GB planned for the trial."""
    assert images_room(default_device()) == 4_000_000_000, "not planned"
    device = shared_device(share, 1e9)
    assert card.limits[-1] == pytest.approx(fraction)
    assert images_room(device) == pytest.approx(room)
    gpu_memory.recover(device)
    set_limit(device, share, 1e9)
    assert images_room(device) == 0, "a trial of this process has run out of memory"


def test_the_memory_that_is_free_for_a_process_is_that_of_the_card_or_of_its_share(card: Card) -> None:
    device = default_device()
    assert free_memory(device) == pytest.approx((15.4e9, 15.4e9))
    card.free, card.allocated, card.reserved = 9_000_000_000, 2_000_000_000, 3_000_000_000
    assert free_memory(device) == pytest.approx((10e9, 15.4e9)), "what the allocator holds unused counts"
    set_limit(device, 0.35, 1e9)
    assert free_memory(device) == pytest.approx((3e9, 5e9)), "5.6 GB with CUDA itself, of which 2 are allocated"
    card.free = 500_000_000
    assert free_memory(device).free == 1_500_000_000, "other processes have filled the card"
    card.allocated = card.reserved = 6_000_000_000
    assert free_memory(device).free == 0


@pytest.mark.parametrize("given", ["0", "3,1", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", None])
def test_a_gpu_that_torch_does_not_see_is_not_replaced_by_the_processor(
    given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    _give(given, monkeypatch)
    monkeypatch.setattr(nvidia, "count_gpus", lambda: 2)
    with pytest.raises(GpuUnusable, match="Fix: install a driver and a torch that fit"):
        shared_device(0.25, 1e9)
    assert shared_device(0, 1e9) == CPU


@pytest.mark.parametrize(("given", "there"), [("0", 0), (None, 0), ("2", 2), ("-1", 2)])
def test_a_gpu_that_is_only_a_number_is_the_processor(
    given: str | None, there: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in clusters on one machine, whose nodes are started with numbers of GPUs."""
    _give(given, monkeypatch)
    monkeypatch.setattr(nvidia, "count_gpus", lambda: there)
    assert shared_device(0.25, 1e9) == CPU


def _give(gpus: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process see these GPUs, of which torch sees none."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if gpus is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)


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
