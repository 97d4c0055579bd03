"""Speed, memory and prices of the GPU of a plan. No torch."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from jobs.errors import Code, InvalidRequest
from jobs.system.similar import close_matches
from orchestrator.planning.gpu_table import Format, GpuCard, Price, Rate, Table, name_in, named_after, packaged_table
from orchestrator.process.numbers_as_text import rounded

DEFAULT_GPU = "A10G"
"""The GPU of the first node type in `cluster.yaml`."""

OWN_GPU = "own GPU"
"""Name of a GPU that is defined by memory and rate without a name."""

RESNET50_FLOPS = 24.5e9
"""FLOPs of one training step of the whole ResNet-50 per image of 224 x 224 pixels: three times its forward pass, 8.18
GFLOP. It converts images per second to FLOPs per second."""

SMALL_FLOPS = RESNET50_FLOPS / 3 / 10
"""FLOPs of a network's forward pass per image, a tenth of ResNet-50's, below which its rates are too high.

Then a GPU mostly waits for kernels to start.
"""

SPOT = 0.4
"""Assumed price of spot machines as a fraction of the on-demand price.

It was 0.43 to 0.47 for the AWS machines whose spot prices are in the packaged table (A10G, L4, L40S).
"""

_SELL_SPOT = ("AWS", "Azure", "Google Cloud")
"""Clouds for which ``SPOT`` is assumed if no spot price is known."""


def format_of(precision: str, tf32: bool) -> Format:
    """Return the number format in which a recipe with these choices computes products, given a GPU that has it."""
    return "tf32" if precision == "float32" and tf32 else cast(Format, precision)


class Reached(NamedTuple):
    """The rate at which a GPU trains in one format."""

    format: Format
    flops: float
    """FLOPs per second."""
    about: str
    """Its origin: a measurement, or what is assumed."""
    assumed: bool

    @property
    def tflops(self) -> float:
        """10^12 FLOPs per second."""
        return self.flops / 1e12

    def plain(self) -> dict[str, Any]:
        """Return the rate as in ``plan --json``, in FLOPs per second."""
        return {"format": self.format, "rate": self.flops, "rate_from": self.about, "assumed": self.assumed}


class Offer(NamedTuple):
    """A price."""

    dollars: float
    """US dollars per GPU-hour."""
    place: str
    """Cloud and instance."""
    about: str
    """Its origin and date."""
    assumed: bool = False

    def plain(self) -> dict[str, Any]:
        """Return the price as in ``plan --json``, in US dollars per GPU-hour."""
        return {"price": self.dollars, "place": self.place, "price_from": self.about, "assumed": self.assumed}


class Gpu(NamedTuple):
    """A GPU as assumed by plans."""

    name: str
    memory: float
    """Bytes."""
    card: GpuCard
    table: Table
    """The known GPUs, with which it is compared."""
    references: Table
    """The table that other GPUs' rates are taken from: for a packaged entry, the packaged one as it is."""
    on_demand: Offer | None
    """The lowest price; None: no price is known."""
    spot: Offer | None
    highest: Offer | None
    """The highest price on demand, which limits on spending assume."""
    given: float | None = None
    """FLOPs per second in every format, as the user says; None: those of the card."""

    @property
    def model(self) -> str:
        """Its name, with the form factor that its rates are of if it is sold in several: H100 SXM5."""
        return self.name if self.card.card is None or self.given is not None else f"{self.name} {self.card.card}"

    def reached(self, form: Format) -> Reached:
        """Return the rate in a format.

        Raises:
            InvalidRequest: If neither a rate is known, nor one that it can be derived from.
        """
        units, rates = self.card.units, self.card.rates
        if self.given is not None:
            return Reached(form, self.given, "your --gpu-tflops, in every format", True)
        if form in rates:
            return self._known(form, rates[form])
        if form == "tf32" and form not in units:
            base = self.reached("float32")
            return base._replace(format=form, about=f"no units for TF32, so as in float32, {base.about}")
        if form == "bfloat16" and form not in units:
            base = self.reached("float32")
            return Reached(form, base.flops, f"no units for bfloat16; assumed: as in float32, {base.about}", True)
        other: Format | None = {"bfloat16": "float16", "float16": "bfloat16"}.get(form)  # type: ignore[assignment]
        if other in rates:
            base = self.reached(other)
            return Reached(form, base.flops, f"assumed: as in {other}, {base.about}", True)
        if form == "float32" and "tf32" in rates and self.card.fp32_tflops is not None:
            return self._without_tensor_cores(self.card.fp32_tflops)
        raise InvalidRequest(
            Code.MISSING_KEY,
            f"expected a rate of {self.name} in {form}; its entry has {', '.join(rates) or 'none'}. Fix: give "
            "--gpu-tflops, the TFLOP/s that it reaches in training, another GPU, or a table with the rate (--gpus)",
            key="--gpu-tflops",
        )

    def _known(self, form: Format, rate: Rate) -> Reached:
        """Return the rate of an entry, which may be relative to the measured rate of another GPU."""
        if rate.of is None or rate.times is None:
            return Reached(form, _flops(rate), f"measured: {_measurement(rate)}", False)
        base = self.references[rate.of].rates[form]
        share = f"{rounded(rate.times)} times {rate.of}" if rate.times != 1 else f"as {rate.of}"
        about = f"assumed: {share} ({rate.because}); {rate.of} measured: {_measurement(base)}"
        return Reached(form, rate.times * _flops(base), about, True)

    def _without_tensor_cores(self, peak: float) -> Reached:
        """Derive the rate in float32 from that in TF32: each step takes longer by its FLOPs at the float32 peak.

        Args:
            peak: 10^12 FLOPs per second.

        The same sum from mixed precision gives 0.98 times the measured rate of V100, and 1.20 times that of Quadro RTX
        8000.
        """
        base = self.reached("tf32")
        about = (
            f"assumed: the time of TF32, plus that of all FLOPs at the float32 peak of {peak:g} TFLOP/s; TF32 "
            f"{base.about}"
        )
        return Reached("float32", 1 / (1 / base.flops + 1 / (peak * 1e12)), about, True)

    def plain(self, rates: Sequence[Reached], flops: Mapping[Format, float]) -> dict[str, Any]:
        """Return the GPU as in ``plan --json``.

        Args:
            rates: its rates in the formats of the work; ``rate`` is the mean over the work.
            flops: the work, by format.
        """
        seconds = sum(flops[rate.format] / rate.flops for rate in rates)
        return {
            "name": self.name,
            "card": self.card.card,
            "memory": self.memory,
            "rate": sum(flops[rate.format] for rate in rates) / seconds if seconds else None,
            "rate_from": "; ".join(f"{rate.format}: {rate.about}" for rate in rates),
            "on_demand": self.on_demand.dollars if self.on_demand else None,
            "spot": self.spot.dollars if self.spot else None,
            "prices_from": self.prices_from,
        }

    @property
    def prices_from(self) -> str:
        """The origin of both prices."""
        offers = (("on demand", self.on_demand), ("spot", self.spot))
        return "; ".join(f"{kind}: {offer.about if offer else 'no price is known'}" for kind, offer in offers)


def gpu(
    name: str | None = None,
    price: float | None = None,
    spot_price: float | None = None,
    *,
    memory_gb: float | None = None,
    tflops: float | None = None,
    table: Table | None = None,
) -> Gpu:
    """Return the GPU of this name, with the user's prices, memory and rate if given.

    Args:
        name: a name of the table, or with ``memory_gb`` and ``tflops`` any name; None: ``OWN_GPU`` with these two,
            else ``DEFAULT_GPU``.
        price: US dollars per GPU-hour on demand.
        spot_price: US dollars per GPU-hour on spot machines.
        memory_gb: memory in 10^9 bytes.
        tflops: 10^12 FLOPs per second that training reaches, in every format.
        table: the known GPUs; None: the packaged ones.

    Raises:
        InvalidRequest: If the name is unknown and not defined by the other options, or a number is not above 0.
    """
    known = packaged_table() if table is None else table
    for option, given, what in (
        ("--price", price, "a price in US dollars per GPU-hour"),
        ("--spot-price", spot_price, "a price in US dollars per GPU-hour"),
        ("--gpu-memory", memory_gb, "GPU memory in GB"),
        ("--gpu-tflops", tflops, "the TFLOP/s that training reaches"),
    ):
        if given is not None and not 0 < given < float("inf"):
            raise InvalidRequest(Code.WRONG_VALUE, f"expected {what}, above 0; got {given}. Fix: change it", key=option)
    name = name_in(name or (DEFAULT_GPU if memory_gb is None or tflops is None else OWN_GPU), known)
    card = _card(name, known, memory_gb, tflops)
    on_demand, spot = _offers(card.prices, price, spot_price)
    highest = max((_listed(one) for one in card.prices if one.kind == "on-demand"), default=None)
    return Gpu(
        name=name,
        memory=1e9 * card.memory_gb,
        card=card,
        table=known,
        references=packaged_table() if known.get(name) is packaged_table().get(name) else known,
        on_demand=on_demand,
        spot=spot,
        highest=highest if price is None else _yours(price),
        given=None if tflops is None else 1e12 * tflops,
    )


def gpu_of_machine(
    device: str,
    memory: float,
    price: float | None = None,
    spot_price: float | None = None,
    *,
    memory_gb: float | None = None,
    table: Table | None = None,
) -> Gpu:
    """Return the GPU on which hours were measured: the one of the table after which the device is named, if any.

    Otherwise it is one with the device's name, without rates and list prices.

    Args:
        device, memory: as in ``named_after``.
        price, spot_price, memory_gb, table: as in ``gpu``.
    """
    known = packaged_table() if table is None else table
    name = named_after(device, memory, known)
    if name is None:
        name, known = device, {**known, device: GpuCard(memory_gb=memory / 1e9, rates={})}
    return gpu(name, price, spot_price, memory_gb=memory_gb or memory / 1e9, table=known)


def _card(name: str, known: Table, memory_gb: float | None, tflops: float | None) -> GpuCard:
    """Return the entry of a GPU, with the user's memory and rate if given."""
    if name not in known and (memory_gb is None or tflops is None):
        near = close_matches(name.lower(), (one.lower() for one in known))
        hint = f" (did you mean {' or '.join(name_in(one, known) for one in near)}?)" if near else ""
        raise InvalidRequest(
            Code.UNKNOWN_NAME,
            f"unknown GPU {name!r}{hint}; known: {', '.join(known)}. Fix: use one of these, or define it: plan takes "
            "--gpu-memory with --gpu-tflops, or a table (--gpus)",
            key="--gpu",
        )
    card = known[name] if name in known else GpuCard(memory_gb=cast(float, memory_gb), rates={})
    return card if memory_gb is None else card.model_copy(update={"memory_gb": memory_gb})


def _flops(rate: Rate) -> float:
    """Return a measured rate in FLOPs per second."""
    if rate.tflops is not None:
        return rate.tflops * 1e12
    assert rate.images_per_second is not None, "a rate relative to another GPU is not measured"
    return rate.images_per_second * RESNET50_FLOPS


def _measurement(rate: Rate) -> str:
    """Describe a measured rate, with further measurements of it."""
    what = "" if rate.images_per_second is None else f"{rate.images_per_second:,.0f} images/s, "
    others = "; ".join(f"{one.images_per_second:,.0f} images/s, {one.source}, {one.date}" for one in rate.others)
    return f"{what}{rate.source}, {rate.date}" + (f"; others measured {others}" if others else "")


def _offers(
    prices: Sequence[Price], price: float | None, spot_price: float | None
) -> tuple[Offer | None, Offer | None]:
    """Return the lowest price on demand and on spot, each None if none is known.

    A spot price, listed or assumed, counts if it is below the lowest price on demand: spot machines can be preempted.
    """
    on_demand, listed = (
        min((_listed(one) for one in prices if one.kind == kind), default=None) for kind in ("on-demand", "spot")
    )
    if price is not None:
        on_demand = _yours(price)
        spots = [_assumed(on_demand, on_demand.place)]
    elif listed is not None:
        spots = [listed]
    else:
        sold = (_listed(one) for one in prices if one.kind == "on-demand" and one.cloud in _SELL_SPOT)
        spots = [_assumed(offer, f"the price of {offer.place}") for offer in sold]
    lower = (offer for offer in spots if on_demand is None or offer.dollars < on_demand.dollars)
    return on_demand, min(lower, default=None) if spot_price is None else _yours(spot_price)


def _listed(price: Price) -> Offer:
    place = f"{price.cloud} {price.instance}"
    return Offer(price.dollars, place, f"{place}, {price.source}, {price.date}")


def _yours(dollars: float) -> Offer:
    return Offer(dollars, "your price", "your price")


def _assumed(offer: Offer, what: str) -> Offer:
    """Return the assumed spot price that goes with a price on demand."""
    return Offer(SPOT * offer.dollars, offer.place, f"assumed {SPOT:.0%} of {what}", True)
