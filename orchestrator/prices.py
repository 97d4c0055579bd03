"""What a GPU is assumed to do and to cost. No torch."""

from functools import cache
from importlib import resources
from typing import NamedTuple

import yaml
from pydantic import TypeAdapter

from jobs.errors import Code, InvalidRequest

DEFAULT_GPU = "A10G"
"""The first choice of `cluster.yaml`."""

REACHED = 0.4
"""The share of its FP32 peak that a GPU is assumed to reach on residual networks."""

SPOT = 0.4
"""The share of the on-demand price that spot machines are assumed to cost."""


class Gpu(NamedTuple):
    """A GPU as a plan sees it. Prices are US dollars for an hour of it."""

    name: str
    memory: float
    """Bytes."""
    rate: float
    """Operations a second that trials reach."""
    rate_from: str
    """Where the rate comes from."""
    on_demand: float
    spot: float
    prices_from: str


class _Row(NamedTuple):
    """One line of ``gpus.yaml``, which says what the columns are."""

    memory: float
    peak: float
    on_demand: float
    machine: str


def gpu(
    name: str = DEFAULT_GPU,
    price: float | None = None,
    spot_price: float | None = None,
) -> Gpu:
    """The GPU of a name, with the user's prices where given.

    Raises:
        InvalidRequest: for an unknown name, or a price that is not above 0.
    """
    known = _table()
    if name not in known:
        raise InvalidRequest(Code.UNKNOWN_NAME, f"unknown GPU {name!r}; known: {', '.join(known)}", key="--gpu")
    for option, given in (("--price", price), ("--spot-price", spot_price)):
        if given is not None and not 0 < given < float("inf"):
            raise InvalidRequest(
                Code.WRONG_VALUE, f"a price is US dollars for an hour of a GPU, above 0; it is {given}", key=option
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
    """The GPUs that are known."""
    return list(_table())


def _prices_from(machine: str, price: float | None, spot_price: float | None) -> str:
    on_demand = f"list price of {machine}, mid-2025" if price is None else "your price"
    spot = f"assumed {SPOT:.0%} of that" if spot_price is None else "your price"
    return f"on demand: {on_demand}; spot: {spot}"


@cache
def _table() -> dict[str, _Row]:
    text = resources.files("orchestrator").joinpath("gpus.yaml").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, _Row]).validate_python(yaml.safe_load(text))
