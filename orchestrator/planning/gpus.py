"""Assumed speed, memory and prices of GPUs. No torch."""

from functools import cache
from importlib import resources
from typing import NamedTuple

import yaml
from pydantic import TypeAdapter

from jobs.errors import Code, InvalidRequest

DEFAULT_GPU = "A10G"
"""The GPU of the first node type in `cluster.yaml`."""

REACHED = 0.4
"""Assumed fraction of its FP32 peak that a GPU reaches on residual networks."""

SPOT = 0.4
"""Assumed price of spot machines as a fraction of the on-demand price."""


class Gpu(NamedTuple):
    """A GPU as assumed by plans. Prices are in US dollars per GPU-hour."""

    name: str
    memory: float
    """Bytes."""
    rate: float
    """Operations per second that trials reach."""
    rate_from: str
    """Origin of the rate."""
    on_demand: float
    spot: float
    prices_from: str


class _Row(NamedTuple):
    """One row of ``gpus.yaml``, which describes the columns."""

    memory: float
    peak: float
    on_demand: float
    machine: str


def gpu(
    name: str = DEFAULT_GPU,
    price: float | None = None,
    spot_price: float | None = None,
) -> Gpu:
    """Return the GPU of this name, with the user's prices if given.

    Raises:
        InvalidRequest: If the name is unknown or a price is not above 0.
    """
    known = _table()
    if name not in known:
        raise InvalidRequest(Code.UNKNOWN_NAME, f"unknown GPU {name!r}; known: {', '.join(known)}", key="--gpu")
    for option, given in (("--price", price), ("--spot-price", spot_price)):
        if given is not None and not 0 < given < float("inf"):
            raise InvalidRequest(
                Code.WRONG_VALUE, f"expected a price in US dollars per GPU-hour, above 0; got {given}", key=option
            )
    row = known[name]
    on_demand = row.on_demand if price is None else price
    return Gpu(
        name=name,
        memory=row.memory,
        rate=REACHED * row.peak,
        rate_from=f"assumed: {REACHED:.0%} of its FP32 peak of {row.peak / 1e12:g} TFLOP/s",
        on_demand=on_demand,
        spot=SPOT * on_demand if spot_price is None else spot_price,
        prices_from=_prices_from(row.machine, price, spot_price),
    )


def names() -> list[str]:
    """Return the names of all known GPUs."""
    return list(_table())


def _prices_from(machine: str, price: float | None, spot_price: float | None) -> str:
    on_demand = f"list price of {machine}, mid-2025" if price is None else "your price"
    spot = f"assumed {SPOT:.0%} of that" if spot_price is None else "your price"
    return f"on demand: {on_demand}; spot: {spot}"


@cache
def _table() -> dict[str, _Row]:
    text = resources.files(__package__).joinpath("gpus.yaml").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, _Row]).validate_python(yaml.safe_load(text))
