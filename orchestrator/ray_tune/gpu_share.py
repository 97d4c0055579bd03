"""The share of a GPU that ``gpu: auto`` means in a cluster: planned memory over that of the smallest card."""

from collections.abc import Callable, Sequence

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs.errors import Code, InvalidRequest
from jobs.specs.section import AUTO, Resources
from orchestrator.planning.gpu_shares import even_share

_PATIENCE_SECONDS = 120.0
"""A machine loads torch to answer."""


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
    with_gpus = [node["NodeID"] for node in nodes if node["Resources"].get("GPU", 0) > 0]
    # a new process for each task, because CUDA keeps memory in one that has asked
    ask = ray.remote(num_cpus=0, max_calls=1)(card_bytes)
    asked = [ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)) for node in with_gpus]
    try:
        answers: list[list[float]] = ray.get([task.remote() for task in asked], timeout=_PATIENCE_SECONDS)
    except RayError as error:
        raise _unknown(f"a machine did not say: {error}") from error
    if not all(answers):
        raise _unknown("torch sees no GPU on a machine where Ray counts some")
    return [card for answer in answers for card in answer]


def card_bytes() -> list[float]:
    """Return the bytes of memory of each GPU of this machine that torch sees. Starts CUDA in this process."""
    import os

    if not os.environ.get("CUDA_VISIBLE_DEVICES"):  # Ray hides all GPUs from a task that reserves none
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)

    import torch

    return [float(torch.cuda.get_device_properties(n).total_memory) for n in range(torch.cuda.device_count())]


def _unknown(why: str) -> InvalidRequest:
    return InvalidRequest(
        Code.CLUSTER_TOO_SMALL,
        f"expected to learn the memory of the cluster's GPUs, for gpu: auto; {why}. Fix: give a number in the study's "
        "resources, such as the share that `deltasweep plan STUDY --gpu NAME` prints",
        key="resources.gpu",
    )
