"""The GPUs of a cluster, and the share of one that ``gpu: auto`` means: planned memory over that of the smallest."""

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
from orchestrator.planning.gpu_table import Device, GpusUnknown
from orchestrator.planning.stages import StageTrials
from orchestrator.process.numbers_as_text import rounded

_PATIENCE_SECONDS = 120.0
"""A machine loads torch to answer."""

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def resolved(stage: StageTrials, say: Callable[[str], object], devices: Callable[[], Sequence[Device]]) -> Resources:
    """Return the resources of a stage's actors, with a number of GPUs in place of ``auto``.

    Args:
        say: called with what ``auto`` means here, and with a warning if the largest actor needs more than a card has.
        devices: returns the GPUs of the cluster (``cluster_gpus``).

    Raises:
        InvalidRequest: if they are not known.
    """
    resources, needed = stage.resources, stage.memory
    if resources.gpu != AUTO:
        return resources
    try:
        found = devices()
    except GpusUnknown as error:
        raise InvalidRequest(
            Code.CLUSTER_TOO_SMALL,
            f"expected to learn the memory of the cluster's GPUs, for gpu: auto; {error}. Fix: give a number in the "
            "study's resources, such as the share that `deltasweep plan STUDY --gpu NAME` prints",
            key="resources.gpu",
        ) from error
    if not found:
        say("This cluster has no GPUs; trials run on CPUs.")
        return resources.model_copy(update={"gpu": 0.0})
    smallest = min(device.memory for device in found)
    share = even_share(needed, smallest)
    sizes = f"trials of about {rounded(needed / 1e9)} GB, and {rounded(smallest / 1e9)} GB on the smallest GPU"
    say(f"gpu: auto is {share:g} here: {sizes}.")
    if needed > smallest:
        say(f"Warning: expected trials that fit on every GPU; got {sizes}. They may fail. Fix: {stage.remedy}.")
    return resources.model_copy(update={"gpu": share})


def cluster_gpus() -> list[Device]:
    """Return every GPU in the cluster.

    Ray knows the number and type of GPUs but not their memory, so each machine with GPUs is asked.

    Raises:
        GpusUnknown: if no machine can run trials yet, or one does not answer.
    """
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]  # type: ignore[no-untyped-call]
    if not nodes:
        raise GpusUnknown("no machine of this cluster can run trials yet")
    with_gpus = {node["NodeID"]: math.ceil(node["Resources"].get("GPU", 0)) for node in nodes}
    # a new process for each task, because CUDA keeps memory in one that has asked
    ask = ray.remote(num_cpus=0, max_calls=1)(gpus_here)
    asked = [
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(gpus)
        for node, gpus in with_gpus.items()
        if gpus
    ]
    try:
        answers: list[list[Device]] = ray.get(asked, timeout=_PATIENCE_SECONDS)
    except RayError as error:
        raise GpusUnknown(f"a machine did not say: {error}") from error
    if not all(answers):
        raise GpusUnknown("torch sees no GPU on a machine where Ray counts some")
    return [device for answer in answers for device in answer]


def gpus_here(gpus: int) -> list[Device]:
    """Return the GPUs of this machine that Ray gives to actors. Starts CUDA in this process.

    Args:
        gpus: how many Ray counts. It gives actors the first ones of those that its daemon sees.
    """
    seen = daemon_environment()
    if seen is not None:  # Ray may hide all GPUs from a task that reserves none
        os.environ.pop(_VISIBLE, None)
        os.environ.update({_VISIBLE: seen[_VISIBLE]} if _VISIBLE in seen else {})

    import torch

    there = map(torch.cuda.get_device_properties, range(min(gpus, torch.cuda.device_count())))
    return [Device(card.name, float(card.total_memory)) for card in there]


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
