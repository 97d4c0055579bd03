"""The share of a GPU that ``gpu: auto`` means in a cluster: planned memory over that of the smallest card."""

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs.errors import Code, InvalidRequest
from jobs.specs.section import AUTO, Resources
from orchestrator.planning.gpu_shares import even_share

_PATIENCE_SECONDS = 120.0
"""A machine loads torch to answer."""

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def resolved(
    resources: Resources,
    needed: float,
    say: Callable[[str], object],
    cards: Callable[[], Sequence[float] | None] | None = None,
) -> Resources:
    """Return resources with a number of GPUs in place of ``auto``.

    Args:
        needed: bytes of GPU memory that the largest actor is planned to need.
        say: called with what ``auto`` means here.
        cards: returns the memory of all GPUs of the cluster, in bytes; None if no machine runs yet. By default, it asks
            the machines.

    Raises:
        InvalidRequest: if the memory of the GPUs is not known.
    """
    if resources.gpu != AUTO:
        return resources
    found = (cards or cluster_cards)()
    if found is None:
        raise _unknown("no machine of this cluster can run trials yet")
    if not found:
        say("This cluster has no GPUs; trials run on CPUs.")
        return resources.model_copy(update={"gpu": 0.0})
    share = even_share(needed, min(found))
    say(
        f"gpu: auto is {share:g} here: trials of about {needed / 1e9:.2g} GB, and {min(found) / 1e9:.3g} GB on the "
        "smallest GPU."
    )
    return resources.model_copy(update={"gpu": share})


def cluster_cards() -> list[float] | None:
    """Return the bytes of memory of every GPU in the cluster; None if no machine can run trials yet.

    Ray knows the number and type of GPUs but not their memory, so each machine with GPUs is asked.

    Raises:
        InvalidRequest: if a machine does not answer.
    """
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]  # type: ignore[no-untyped-call]
    if not nodes:
        return None
    with_gpus = {node["NodeID"]: math.ceil(node["Resources"].get("GPU", 0)) for node in nodes}
    # a new process for each task, because CUDA keeps memory in one that has asked
    ask = ray.remote(num_cpus=0, max_calls=1)(card_bytes)
    asked = [
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(gpus)
        for node, gpus in with_gpus.items()
        if gpus
    ]
    try:
        answers: list[list[float]] = ray.get(asked, timeout=_PATIENCE_SECONDS)
    except RayError as error:
        raise _unknown(f"a machine did not say: {error}") from error
    if not all(answers):
        raise _unknown("torch sees no GPU on a machine where Ray counts some")
    return [card for answer in answers for card in answer]


def card_bytes(gpus: int) -> list[float]:
    """Return the bytes of memory of the GPUs of this machine that Ray gives to actors. Starts CUDA in this process.

    Args:
        gpus: how many Ray counts. It gives actors the first ones of those that its daemon sees.
    """
    seen = daemon_environment()
    if seen is not None:  # Ray may hide all GPUs from a task that reserves none
        os.environ.pop(_VISIBLE, None)
        os.environ.update({_VISIBLE: seen[_VISIBLE]} if _VISIBLE in seen else {})

    import torch

    there = min(gpus, torch.cuda.device_count())
    return [float(torch.cuda.get_device_properties(n).total_memory) for n in range(there)]


def daemon_environment() -> dict[str, str] | None:
    """Return the variables with which Ray's daemon on this machine, the parent of its workers, started.

    None: they cannot be read (not on Linux).
    """
    try:
        text = Path(f"/proc/{os.getppid()}/environ").read_bytes()
    except OSError:
        return None
    pairs = (os.fsdecode(pair).partition("=") for pair in text.split(b"\0") if pair)
    return {name: value for name, _, value in pairs}


def _unknown(why: str) -> InvalidRequest:
    return InvalidRequest(
        Code.CLUSTER_TOO_SMALL,
        f"expected to learn the memory of the cluster's GPUs, for gpu: auto; {why}. Fix: give a number in the study's "
        "resources, such as the share that `deltasweep plan STUDY --gpu NAME` prints",
        key="resources.gpu",
    )
