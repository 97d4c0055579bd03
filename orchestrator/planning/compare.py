"""A study's pending work on several GPUs side by side. No torch."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from jobs.errors import Code, InvalidRequest
from orchestrator.planning.gpu_shares import even_share, per_card
from orchestrator.planning.gpu_table import name_in
from orchestrator.planning.gpus import Gpu, Offer, Reached, gpu
from orchestrator.planning.plan import Plan
from orchestrator.planning.plan_text import SMALL_TAKE_LONGER, amount, uncounted
from orchestrator.process.numbers_as_text import about, rounded

ALL = "all"
"""The name that stands for all known GPUs."""


class Cost(NamedTuple):
    """US dollars for all pending trials, at the lowest price of its kind."""

    dollars: float
    offer: Offer

    def plain(self) -> dict[str, Any]:
        """Return the cost as in ``plan --json``."""
        return {"dollars": self.dollars, **self.offer.plain()}


class Compared(NamedTuple):
    """The pending work on one GPU."""

    gpu: Gpu
    rates: tuple[Reached, ...]
    hours: float | None
    """GPU-hours; None: no rate is known in a format that trials compute in."""
    trials_per_card: int
    """How many of the largest trial (or bundle), with its matrices, fit in its memory at once; 0: not even one."""
    gpu_auto: float
    """The share that ``gpu: auto`` means in a cluster of these GPUs."""
    problem: str
    """Why ``hours`` is None; empty otherwise."""

    @property
    def on_demand(self) -> Cost | None:
        """The cost at the lowest on-demand price; None if no price or no rate is known."""
        return self._cost(self.gpu.on_demand)

    @property
    def spot(self) -> Cost | None:
        """The cost at the lowest spot price, without the work lost to preemptions; None as for ``on_demand``."""
        return self._cost(self.gpu.spot)

    def _cost(self, offer: Offer | None) -> Cost | None:
        return None if offer is None or self.hours is None else Cost(self.hours * offer.dollars, offer)

    def plain(self) -> dict[str, Any]:
        """Return the comparison as in ``plan --json``, in bytes, hours and US dollars."""
        return {
            "gpu": self.gpu.name,
            "card": self.gpu.card.card,
            "memory": self.gpu.memory,
            "gpu_hours": self.hours,
            "trials_per_card": self.trials_per_card,
            "gpu_auto": self.gpu_auto,
            "on_demand": self.on_demand.plain() if self.on_demand else None,
            "spot": self.spot.plain() if self.spot else None,
            "rates": [rate.plain() for rate in self.rates],
            "problem": self.problem,
        }


def chosen(names: str, own: Gpu, *, besides: bool = False) -> list[Gpu]:
    """Return the GPUs of a list of names, separated by commas, or all of them.

    Args:
        own: the plan's GPU, with its own price, memory and rate; the others are those of its table.
        besides: whether it is compared even if it is not named.

    Raises:
        InvalidRequest: If a name is unknown, or there is none.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"expected names of GPUs, separated by commas, or {ALL}; got {names!r}. Fix: use some of "
            f"{', '.join(own.table)}",
            key="--compare",
        )
    compared = [
        *([own.name] if besides else []),
        *(name for one in wanted for name in (own.table if one == ALL else [name_in(one, (*own.table, own.name))])),
    ]
    return [own if name == own.name else gpu(name, table=own.table) for name in dict.fromkeys(compared)]


def compare(plan: Plan, gpus: Iterable[Gpu]) -> list[Compared]:
    """Return the pending work of a plan on each GPU, by the cost on demand, lowest first; unknown costs come last."""
    found = [_on(plan, each) for each in gpus]
    return sorted(found, key=lambda one: one.on_demand.dollars if one.on_demand else float("inf"))


def _on(plan: Plan, each: Gpu) -> Compared:
    needed = plan.actor_memory
    fitting, auto = per_card(needed, each.memory), even_share(needed, each.memory)
    try:
        rates = tuple(map(each.reached, plan.flops_by_format))
    except InvalidRequest as error:
        return Compared(each, (), None, fitting, auto, str(error))
    hours = sum(plan.flops_by_format[rate.format] / rate.flops for rate in rates) / 3600
    return Compared(each, rates, hours, fitting, auto, "")


def on_a_gpu(plan: Plan) -> str:
    """Return a line on the plan's GPU, for a plan whose hours are those of this machine's processor."""
    if plan.small_networks:
        return f"on a GPU: unknown; {SMALL_TAKE_LONGER} (--gpu {plan.gpu.name}: which rates and prices)"
    one = _on(plan, plan.gpu)
    if one.hours is None:
        return f"on a GPU: {one.problem}"
    costs = {"on demand": one.on_demand, "on spot": one.spot}
    money = ", ".join(f"{amount(cost.dollars)} {kind}" for kind, cost in costs.items() if cost is not None)
    return (
        f"on a GPU: {about(one.hours)} hours of one {one.gpu.name}{f', {money}' if money else ''}"
        f"{uncounted(plan)} (--gpu {one.gpu.name}: from which rates and prices)"
    )


COLUMNS = ("GPU", "memory", "trials a card", "hours", "on demand", "spot", "rate")


def rows(compared: Iterable[Compared]) -> Iterator[tuple[str, ...]]:
    """Yield the cells of a table with ``COLUMNS``."""
    for one in compared:
        rates = ", ".join(
            f"{rate.format} {rounded(rate.tflops)} TFLOP/s, {'assumed' if rate.assumed else 'measured'}"
            for rate in one.rates
        )
        yield (
            one.gpu.model,
            f"{one.gpu.memory / 1e9:g} GB",
            str(one.trials_per_card or "too large"),
            "-" if one.hours is None else about(one.hours).removeprefix("about "),
            _cell(one.on_demand),
            _cell(one.spot),
            rates or one.problem or "-",
        )


def _cell(cost: Cost | None) -> str:
    if cost is None:
        return "-"
    return f"{amount(cost.dollars).removeprefix('about ')}, {cost.offer.place}" + (
        " (assumed)" if cost.offer.assumed else ""
    )
