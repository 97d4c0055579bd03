"""Memory: of a trial against the plan, of trials that share a card, and of one that has too little."""

import math
import multiprocessing
import time
from collections.abc import Iterator, Mapping
from threading import Barrier
from typing import Any, NamedTuple

import torch

from benchmarks.gpu.machine import Found, Machine, Size, for_each, holds
from benchmarks.gpu.processes import at_once
from benchmarks.gpu.trials import (
    DEPTHS,
    FORMATS,
    compared_work,
    digest,
    make_trials,
    make_work,
    run_alone,
    run_together,
)
from benchmarks.rows import Row, at_most, beside
from jobs.catalog.catalog import PACKAGED
from jobs.execution.device import default_device
from jobs.execution.gpu_memory import is_out_of_memory, refusals, set_limit
from jobs.kind import workload
from jobs.specs.base import ALL
from jobs.system.memory import GPU_RUNTIME_BYTES
from orchestrator.planning.gpu_shares import actor_memory

ENOUGH, TOO_LITTLE = 1.1, (0.9, 0.75, 0.6)
"""Limits of the memory of a trial, relative to what it takes without a limit."""


def peak_memory(machine: Machine) -> Iterator[Found]:
    """Memory of a trial or bundle on the card over what the plan says, and that of the CUDA runtime alone.

    The latter is what the allocator leaves free (``jobs.execution.gpu_memory``).
    """
    if machine.device.type != "cuda":
        raise RuntimeError("only a GPU tells its memory")
    formats = {name: FORMATS[name] for name in ("float32", "bfloat16")}
    yield from for_each(machine, "peak_memory", _peak_memory, formats)


def _peak_memory(machine: Machine, name: str, choices: Mapping[str, Any]) -> Iterator[Row]:
    for depths in (DEPTHS, (ALL,)):
        work = make_work(machine, depths=depths, **choices)
        machine.clear()
        torch.cuda.reset_peak_memory_stats()
        run_together(machine, work)
        runtime = used(machine) - torch.cuda.memory_reserved()
        peak = runtime + torch.cuda.max_memory_reserved()
        planned = actor_memory([[workload(spec, PACKAGED) for spec in work.specs]])
        where = "blocks 0, 1, 3, 9" if len(depths) > 1 else "all blocks"
        yield beside(f"{name}, {where}: GB reserved at the peak, with the runtime", [peak / 1e9])
        yield at_most(
            f"{name}, {where}: memory of the runtime / what is left to it", [runtime / GPU_RUNTIME_BYTES], 1.0
        )
        yield at_most(f"{name}, {where}: memory / planned memory", [peak / planned], 1.0)
        yield at_most(f"{name}, {where}: planned memory / memory", [planned / peak], 2.0)


def sharing(machine: Machine) -> Iterator[Row]:
    """Trials at once on one card: their rate relative to one alone, and whether their numbers are the same.

    They start at the same time, and count from the first start to the last end.
    """
    (alone,) = _sharing(machine, 1)
    for count in (2, 4):
        found = _sharing(machine, count)
        seconds = max(one.ended for one in found) - min(one.started for one in found)
        yield beside(
            f"{count} trials at once on the card / one at a time", [count * (alone.ended - alone.started) / seconds]
        )
        same = {one.digest for one in found} == {alone.digest}
        yield holds(f"{count} trials at once compute what one computes alone", same)


def starved(machine: Machine) -> Iterator[Row]:
    """The same trial with less and less memory: it computes the same numbers, or fails for lack of memory.

    Torch takes another algorithm for a convolution whose workspace does not fit (``jobs.execution.gpu_memory``).
    """
    if machine.device.type != "cuda":
        raise RuntimeError("only a GPU's memory can be limited")
    unlimited = _limited(machine, None)
    if unlimited.problem:
        raise RuntimeError(f"the card is too small for the trial: {unlimited.problem}")
    right = True
    for part in (ENOUGH, *TOO_LITTLE):
        found = _limited(machine, int(part * unlimited.peak))
        equal = found.digest == unlimited.digest
        outcome = found.problem or ("equal numbers" if equal else "OTHER NUMBERS")
        yield beside(f"a trial with {part:g} of its memory, 1 if it computes equal numbers: {outcome}", [float(equal)])
        if part == ENOUGH:
            yield holds("a trial with more memory than it takes computes equal numbers", equal)
        right = right and (equal or bool(found.problem))
    yield holds("a trial with too little memory computes equal numbers, or fails", right)


class Shared(NamedTuple):
    """What a process that shares the card measured."""

    started: float
    ended: float
    """In seconds of the monotonic clock, which is one for all processes."""
    digest: str


def _sharing(machine: Machine, count: int) -> list[Shared]:
    machine.require_time()
    together = multiprocessing.get_context("spawn").Barrier(count)
    return at_once(_shared, [(machine.size, 1 / count, together)] * count, machine.left)


def _shared(size: Size, share: float, together: Barrier) -> Shared:
    """Run a trial in a process with a share of the card, at the same time as the other processes."""
    machine = Machine(default_device(), size, None, math.inf)
    set_limit(machine.device, share, 0)
    choices: dict[str, Any] = {"depths": (3,), "precision": "bfloat16", "evaluation": "folded"}
    run_alone(machine, compared_work(machine, **choices, epochs=1), 0)
    (trial,) = make_trials(machine, compared_work(machine, **choices, epochs=size.shared_epochs))
    machine.wait()
    together.wait()  # without a limit, because a process that fails ends all
    started = time.monotonic()
    trial.advance()
    machine.wait()
    return Shared(started, time.monotonic(), digest(trial))


class Limited(NamedTuple):
    """How a trial in a process of its own ended."""

    digest: str
    problem: str
    """The error with which it failed for lack of memory; empty if it did not."""
    peak: int
    """The most bytes that the process reserved."""


def _limited(machine: Machine, limit: int | None) -> Limited:
    """Run a trial in a new process, in which no algorithm has been chosen yet, with at most so many bytes."""
    machine.require_time()
    (found,) = at_once(_starved, [(machine.size, limit)], machine.left)
    return found


def _starved(size: Size, limit: int | None) -> Limited:
    machine = Machine(default_device(), size, None, math.inf)
    if limit is not None:
        total = torch.cuda.get_device_properties(machine.device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), machine.device)
    computed, problem = "", ""
    try:
        computed = digest(run_alone(machine, compared_work(machine, depths=(ALL,), epochs=1), 0))
    except Exception as error:
        reported = refusals.caught(error, machine.device)
        if not is_out_of_memory(reported):
            raise
        problem = type(reported).__name__
    return Limited(computed, problem, torch.cuda.max_memory_reserved())


def used(machine: Machine) -> int:
    """Return the bytes of the card that are in use, by whichever process."""
    torch.zeros(1, device=machine.device)
    free, total = torch.cuda.mem_get_info(machine.device)
    return total - free
