"""The price at which a launch limits its spending. Imports neither Ray nor torch."""

from collections.abc import Callable, Iterable, Sequence

from jobs.errors import Code, InvalidRequest
from jobs.system.printable import one_line
from orchestrator.launching.options import Spending
from orchestrator.planning import gpus
from orchestrator.planning.gpu_table import Device, GpusUnknown, named_after, packaged_table
from orchestrator.planning.gpus import Gpu, Offer
from orchestrator.process.numbers_as_text import rounded

_FIX = "Fix: give --price, in US dollars per GPU-hour, or --gpu, a GPU whose list price counts"


def of_gpu(gpu: Gpu) -> Offer:
    """Return the highest price on demand of a GPU.

    Raises:
        InvalidRequest: If none is known.
    """
    if gpu.highest is None:
        raise InvalidRequest(
            Code.MISSING_KEY,
            f"expected --price with --max-cost, because no price of {gpu.name} is known. Fix: give --price, in US "
            "dollars per GPU-hour",
            key="--price",
        )
    return gpu.highest._replace(about=f"the highest known price of {gpu.model} on demand: {gpu.highest.about}")


def of_cluster(devices: Iterable[Device]) -> Offer:
    """Return the highest price on demand of the GPUs of a cluster; that of the default GPU if it has none.

    Raises:
        InvalidRequest: If one of them has no entry in the packaged table, or no price.
    """
    table, found = packaged_table(), list[Offer]()
    for device in dict.fromkeys(devices):
        name = named_after(*device, table)
        if name is None:
            raise _unknown(f"the cluster has {one_line(device.name)}, which has no entry in the table of GPUs")
        found.append(of_gpu(gpus.gpu(name)))
    if not found:
        offer = of_gpu(gpus.gpu())
        return offer._replace(about=f"the cluster has no GPUs; assumed: {offer.about}")
    return max(found)


def priced(spending: Spending, devices: Callable[[], Sequence[Device]]) -> Offer:
    """Return the price of a limit: as asked, or that of the cluster's GPUs.

    Args:
        devices: returns the GPUs of the cluster, or raises GpusUnknown.

    Raises:
        InvalidRequest: If the price of the cluster's GPUs is not known.
    """
    if spending.price is not None:
        return spending.price
    try:
        return of_cluster(devices())
    except GpusUnknown as error:
        raise _unknown(str(error)) from error


def about_limit(spending: Spending, price: Offer) -> str:
    """Return the line about a limit that a launch prints before its first trial."""
    return (
        f"Spending limit: ${spending.most:,.2f}, at ${rounded(price.dollars)} per hour for each GPU of the cluster "
        f"(each machine, if it has no GPUs): {price.about}."
    )


def _unknown(why: str) -> InvalidRequest:
    return InvalidRequest(
        Code.MISSING_KEY, f"expected --price or --gpu with --max-cost, because {why}. {_FIX}", key="--price"
    )
