"""Memory: of a trial against the plan, of trials that share a card, and of one that has too little."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from threading import Barrier
from typing import NamedTuple

import torch

from benchmarks.gpu.machine import Machine, Size, holds
from benchmarks.gpu.trials import DEPTHS, FORMATS, digest, make_work, run_alone, run_together
from benchmarks.rows import Row, at_most, beside
from jobs.catalog.catalog import PACKAGED
from jobs.execution.device import default_device
from jobs.execution.gpu_memory import WorkspaceRefused, set_environment, set_limit
from jobs.kind import workload
from jobs.specs.base import ALL
from orchestrator.planning.gpu_shares import actor_memory


def peak_memory(machine: Machine) -> Iterator[Row]:
    """Memory of a trial or bundle on the card over what the plan says, the CUDA runtime included."""
    if machine.device.type != "cuda":
        raise RuntimeError("only a GPU tells its memory")
    runtime = used(machine) - torch.cuda.memory_reserved()
    for name in ("float32", "bfloat16"):
        for depths in (DEPTHS, (ALL,)):
            work = make_work(machine, depths=depths, **FORMATS[name])
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            run_together(machine, work)
            peak = runtime + torch.cuda.max_memory_reserved()
            planned = actor_memory([[workload(spec, PACKAGED) for spec in work.specs]])
            where = "blocks 0, 1, 3, 9" if len(depths) > 1 else "all blocks"
            yield beside(f"{name}, {where}: GB reserved at the peak, with the runtime", [peak / 1e9])
            yield at_most(f"{name}, {where}: memory / planned memory", [peak / planned], 1.0)
            yield at_most(f"{name}, {where}: planned memory / memory", [planned / peak], 2.0)


def sharing(machine: Machine) -> Iterator[Row]:
    """Trials at once on one card: how many images per second in all, and whether their numbers are the same."""
    context = multiprocessing.get_context("spawn")
    alone: list[Shared] = []
    for count in (1, 2, 4):
        with context.Manager() as manager, ProcessPoolExecutor(count, context) as pool:
            together = manager.Barrier(count, timeout=120)
            asked = [pool.submit(_shared, machine.size, 1 / count, together) for _ in range(count)]
            found = [one.result(timeout=240) for one in asked]
        alone = alone or found
        rate = sum(1 / one.seconds for one in found) * alone[0].seconds
        yield beside(f"{count} trials at once on the card / one at a time", [rate])
        digests = {one.digest for one in (*alone, *found)}
        yield holds(f"{count} trials at once compute what one computes alone", len(digests) == 1)


def starved(machine: Machine) -> Iterator[Row]:
    """The same trial with less and less memory: it computes the same numbers, or fails for lack of memory.

    Torch takes another algorithm for a convolution whose workspace does not fit (``jobs.execution.gpu_memory``).
    """
    if machine.device.type != "cuda":
        raise RuntimeError("only a GPU's memory can be limited")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    work = make_work(machine, depths=(ALL,))
    expected = digest(run_alone(machine, work, 0))
    peak = torch.cuda.max_memory_reserved()
    limits = (1.1, 0.95, 0.85, 0.75, 0.65)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        asked = [pool.submit(_starved, machine.size, int(limit * peak)) for limit in limits]
        found = [one.result(timeout=120) for one in asked]
    for limit, outcome in zip(limits, found, strict=True):
        print(f"limited to {limit:.2f} of the memory it takes: {'equal' if outcome == expected else outcome}")
    failures = {torch.OutOfMemoryError.__name__, WorkspaceRefused.__name__}
    right = all(outcome in {expected, *failures} for outcome in found)
    yield holds("a trial with too little memory computes equal numbers, or fails", right)


def _starved(size: Size, limit: int) -> str:
    """Return the digest of a trial, or the name of the error with which it failed."""
    set_environment()
    machine = Machine(default_device(), size, None, 0)
    total = torch.cuda.get_device_properties(machine.device).total_memory
    torch.cuda.set_per_process_memory_fraction(limit / total)
    try:
        return digest(run_alone(machine, make_work(machine, depths=(ALL,)), 0))
    except (torch.OutOfMemoryError, WorkspaceRefused) as error:
        return type(error).__name__


class Shared(NamedTuple):
    """What a process that shares the card measured."""

    seconds: float
    digest: str


def _shared(size: Size, share: float, together: Barrier) -> Shared:
    """Run a trial in a process with a share of the card, at the same time as the other processes."""
    set_environment()
    machine = Machine(default_device(), size, None, 0)
    set_limit(machine.device, share, 0)
    work = make_work(machine, depths=(3,), precision="bfloat16", evaluation="folded")
    run_alone(machine, work, 0)
    together.wait()
    trial = run_alone(machine, work, 0)
    return Shared(trial.seconds, digest(trial))


def used(machine: Machine) -> int:
    """Return the bytes of the card that are in use, by whichever process."""
    torch.zeros(1, device=machine.device)
    free, total = torch.cuda.mem_get_info(machine.device)
    return total - free
