"""The device kind on which numbers are reproducible, determined by a probe computation.

The instruction set does not determine which bits a processor computes: libraries also choose code by vendor, model and
caches. Therefore a fixed probe runs the operations of trials, and a digest of its bits is part of the device kind.
Operations that only some trials have (``OPERATIONS``) are computed for these alone, each with a digest of its own.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain

import torch

from jobs.execution.determinism import deterministic
from jobs.execution.operations import OPERATIONS
from jobs.execution.probe import COUNT, Numbers, bits, fixed_numbers, network_operations, other_operations
from jobs.networks.arithmetic import mixed_precision
from jobs.specs.optimizers import Execution
from jobs.system.processor import cpu_name, read_cpuinfo

PROBE_VERSION = 1
"""Raised whenever the probe computes something else; digests of two versions are not comparable."""


def device_kind(device: torch.device, execution: Execution, operations: Sequence[str] = ()) -> str:
    """Return the device kind on which a recipe's numbers are reproducible: equal names mean equal bits.

    Example: ``AMD EPYC (AuthenticAMD family 25 model 1), avx2 (probe 1: 8be921f1e88d)``. For a GPU, its name and digest
    come first. The CPU is always included, because fresh layers and noise are drawn on it.

    Args:
        operations: names in ``OPERATIONS``: what the trial computes beyond the probe, in the recipe's precision. Their
            digests follow that of the probe, in order of their names: ``(probe 1: 8be921f1e88d, adamw 1:
            0d2ce4f31a05)``. Each is computed only where trials compute it: on the device, or on the CPU beside a GPU.

    Two machines have the same device kind only if the probe gives equal bits on both, with the recipe's threads.
    Vendor, family and model are included for readability, and because no probe covers everything. The result is
    computed once per process.
    """
    # the only fields that change the probe's bits; the digest covers both memory formats
    arithmetic = Execution(threads=execution.threads, tf32=execution.tf32)
    mixed = Execution(threads=execution.threads, tf32=execution.tf32, precision=execution.precision)
    kinds = []
    for each in dict.fromkeys([device, torch.device("cpu")]):
        there = [name for name in sorted(operations) if OPERATIONS[name].where(device) == each]
        digests = [_digest(each, arithmetic), *(_digest_of(name, each, mixed) for name in there)]
        kinds.append(f"{device_name(each)} ({', '.join(digests)})")
    return ", ".join(kinds)


@lru_cache(maxsize=64)
def _digest(device: torch.device, execution: Execution) -> str:
    hashed = hashlib.sha256(repr(list(probe(device, execution).items())).encode()).hexdigest()
    return f"probe {PROBE_VERSION}: {hashed[:12]}"


@lru_cache(maxsize=64)
def _digest_of(name: str, device: torch.device, execution: Execution) -> str:
    operation = OPERATIONS[name]
    with _probing(execution), mixed_precision(execution.precision, device):
        digest = bits(*operation.compute(Numbers(fixed_numbers(COUNT).to(device))))
    return f"{name} {operation.version}: {digest[:12]}"


def device_name(device: torch.device) -> str:
    """Return vendor, model and instruction set of a device, as far as the system reports them; nothing is computed."""
    if device.type == "cpu":
        return f"{cpu_name(read_cpuinfo())}, {torch.backends.cpu.get_cpu_capability().lower()}"
    major, minor = torch.cuda.get_device_capability(device)
    return f"{torch.cuda.get_device_name(device)}, sm_{major}{minor}"


def probe(device: torch.device, execution: Execution) -> dict[str, str]:
    """Run the operations of trials on fixed numbers and return a digest of the resulting bits per operation.

    The state of the process is left unchanged.
    """
    found: dict[str, str] = {}
    with _probing(execution):
        drawn = fixed_numbers(COUNT)
        found["normal numbers"] = bits(drawn, fixed_numbers(7))  # torch uses other code to draw few numbers
        numbers = Numbers(drawn.to(device))
        for name, tensors in chain(network_operations(numbers), other_operations(numbers)):
            found[name] = bits(*tensors)
    return found


@contextmanager
def _probing(execution: Execution) -> Iterator[None]:
    with deterministic(execution), torch.random.fork_rng(devices=[]), torch.enable_grad():
        yield
