"""A plan as text. No torch."""

import math
from collections.abc import Sequence

from jobs.kind import GRID_KIND, kinds
from jobs.specs.base import ALL
from jobs.study.model import Study
from jobs.system.memory import GPU_RUNTIME_BYTES
from orchestrator.planning.gpus import Gpu
from orchestrator.planning.plan import DENSE_RATE, Matrices, Plan, StageMemory
from orchestrator.process.numbers_as_text import about, duration, rounded

_TOLD_BYTES = 1e9
"""The text output lists matrices from this size on; JSON output lists all."""

SMALL_TAKE_LONGER = "the rates are those of ResNet-50 in large batches, and networks as small as these take longer"


def amount(dollars: float) -> str:
    """Format an estimate in US dollars: about $4,771.97, or less than $0.01."""
    return "less than $0.01" if 0 < dollars < 0.005 else f"about ${dollars:,.2f}"


def describe(plan: Plan, study: Study, about_older: str | None = None, about_here: str | None = None) -> str:
    """Return the plan as text for a terminal.

    Args:
        about_older: describes trials with older numerics, if any.
        about_here: on a machine without a GPU: that its hours are unknown; or below them, the hours of a GPU.
    """
    gpu, parts = plan.gpu, plan.flops
    shares = ", ".join(
        f"{name.replace('_', ' ')} {amount / parts.total:.0%}"
        for name, amount in parts._asdict().items()
        if parts.total and amount
    )
    here = [about_here] if about_here else []
    actor = "bundle" if study.bundle == "blocks" else "trial"
    time_and_money = _time_and_money(plan, actor)
    times = [*time_and_money, *here] if plan.on_processor else [*here, *time_and_money]
    lines = [
        f"{plan.study}: {plan.trials:,} trials: {plan.done:,} done, {plan.pending:,} pending, "
        f"{plan.quarantined:,} quarantined" + (f", {plan.damaged:,} damaged" if plan.damaged else ""),
        f"pending work: {plan.images_trained:,} images trained, {plan.images_evaluated:,} evaluated, "
        f"{_flop(parts.total)}{f' ({shares})' if shares else ''}",
        *times,
    ]
    if plan.flops_alone > parts.total:
        lines.append(
            f"{_savings(study)}: {rounded(plan.flops_alone / parts.total)} times less work than running each trial "
            "alone"
        )
    if about_older:
        lines.insert(1, about_older)
    lines += dict.fromkeys(_memory(plan, stage, study) for stage in plan.stages)
    lines.append(
        f"disk: {_bytes(plan.results)} of results, {_bytes(plan.checkpoints)} of checkpoints per running trial, "
        f"{_bytes(plan.images_at_rest)} of images per machine"
    )
    lines[-1:-1] = [_held(matrices, gpu) for matrices in plan.matrices if matrices.bytes >= _TOLD_BYTES]
    if plan.activations:
        lines[-1] += f", and {_bytes(plan.activations)} of activations, limited by $DELTASWEEP_ACTIVATIONS_GB"
    return "\n".join([*lines, *_about_statistics(study)])


def _time_and_money(plan: Plan, actor: str) -> list[str]:
    """Describe the hours, what they rest on, and their price.

    Args:
        actor: what an actor runs: ``trial`` or ``bundle``.
    """
    gpu, hours = plan.gpu, about(plan.gpu_hours)
    if plan.seconds_here is not None:
        several = plan.side_by_side > 1
        without = ["reading images", *plan.uncounted, "starting Ray"]
        return [
            f"time on this machine: about {duration(plan.seconds_here)}"
            + (f", {plan.side_by_side} {actor}s side by side" if several else "")
            + f" ({hours.removeprefix('about ')} hours of this processor, {plan.measured}"
            + ("; assumed: as much processor time side by side as alone" if several else "")
            + f"; without {_listed(without)})"
        ]
    of_card = f" of {gpu.model}" if gpu.model != gpu.name else ""
    rates = [f"rate in {rate.format}{of_card}: {rounded(rate.tflops)} TFLOP/s, {rate.about}" for rate in plan.rates]
    costs = [
        f"{amount(dollars)} {kind} (${rounded(offer.dollars)} per {gpu.name}-hour: {offer.about})"
        for kind, offer, dollars in (("on demand", gpu.on_demand, plan.on_demand), ("on spot", gpu.spot, plan.spot))
        if offer is not None and dollars is not None
    ]
    unknown = f"no price of {gpu.name} is known. Fix: give --price, in US dollars per GPU-hour" + (
        ", or --gpu, a GPU whose price counts" if plan.measured else ""
    )
    longer = f"; {SMALL_TAKE_LONGER}" if plan.small_networks and plan.rates and gpu.given is None else ""
    return [
        f"time: {hours} GPU-hours"
        + (f" ({plan.measured})" if plan.measured else f" of {gpu.name}{longer}")
        + uncounted(plan),
        *rates,
        f"money: {'; '.join(costs) or unknown}",
    ]


def uncounted(plan: Plan) -> str:
    """Return what no estimate of time includes, as the end of a sentence; empty if there is nothing."""
    return f"; without {_listed(plan.uncounted)}" if plan.uncounted else ""


def _held(held: Matrices, gpu: Gpu) -> str:
    """Describe the additional cost of trials that invert a full matrix."""
    fits = "" if held.bytes + GPU_RUNTIME_BYTES <= gpu.memory else f", more than one {gpu.name} has"
    plural = "s" if held.trials > 1 else ""
    by = f" by {held.decomposition}" if held.decomposition else ""
    return (
        f"matrices: {held.measure}{by}, {held.trials:,} trial{plural} of {held.rows:,} rows, each about "
        f"{_bytes(held.bytes)} of memory (GPU memory, if there is a GPU{fits}) and {_flop(held.operations)} in "
        f"float64, {rounded(held.core_hours, 2)} hours of one core (assumed: {DENSE_RATE / 1e9:g} GFLOP/s), without "
        "checkpoints: an interrupted trial repeats this step. This time is not included in the estimates above"
    )


def _savings(study: Study) -> str:
    bundles = study.bundle == "blocks"
    kept = any(recipe.frozen_batchnorm != "batch" for recipe in study.recipes)
    return " and ".join(["bundles"] * bundles + ["cached activations"] * kept)


def _about_statistics(study: Study) -> list[str]:
    """Say what would save work if no network of the grid has running statistics."""
    if study.grid is None or all(blocks == ALL for blocks in study.grid.blocks):
        return []
    networks = [study.catalog.architecture_of(source) for source in study.grid.source]
    if any(network.running_statistics for network in networks):
        return []
    if all(recipe.frozen_batchnorm == "source" for recipe in study.recipes):
        return []
    return [
        "note: without BatchNorm every frozen_batchnorm computes the same, up to rounding; source is the quickest, "
        "because activations of frozen blocks are computed once"
    ]


def _memory(plan: Plan, stage: StageMemory, study: Study) -> str:
    """Describe the memory that trials of a stage need, compared with the share that the study requests for them."""
    alike = [other for other in plan.stages if other.kind == stage.kind]
    of_kind = f" of {stage.kind}" if len(plan.stages) > 1 or stage.kind != GRID_KIND else ""
    if len({(other.memory, other.requested) for other in alike}) > 1:
        of_kind += f" ({stage.trials:,} trials)"
    actor = "bundle" if study.bundle == "blocks" and kinds()[stage.kind].sharing else "trial"
    needed = stage.memory - GPU_RUNTIME_BYTES if plan.on_processor else stage.memory
    of_gpu = "" if plan.on_processor else f", {_enough(stage.share)} of one {plan.gpu.name}"
    asking = "its section" if stage.kind in study.sections else "the study"
    return f"memory{of_kind}: about {_bytes(needed)} per {actor}{of_gpu}; {asking} requests " + _asked(plan, stage)


def _asked(plan: Plan, stage: StageMemory) -> str:
    """Describe the share that is requested for trials, compared with the one that they need."""
    if not stage.requested:
        return "no GPU"
    asked = f"gpu: {stage.requested if isinstance(stage.requested, str) else format(stage.requested, 'g')}"
    if plan.on_processor:
        return asked
    if stage.share > 1:
        return f"{asked}. One {plan.gpu.name} is too small: {stage.remedy}"
    if isinstance(stage.requested, str):  # auto
        return f"{asked}, which is {stage.auto:g} of one {plan.gpu.name}"
    enough = stage.requested >= stage.share
    return asked + ("" if enough else f", which is too little: use {_enough(stage.share)} or more, or auto")


def _enough(share: float) -> str:
    """Format the share of a GPU that a trial needs, rounded up, so that whoever requests it has enough."""
    return f"{math.ceil(100 * share) / 100:.2f}"


def _listed(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _flop(amount: float) -> str:
    for unit, size in (("EFLOP", 1e18), ("PFLOP", 1e15), ("TFLOP", 1e12)):
        if amount >= size:
            return f"{rounded(amount / size)} {unit}"
    return f"{rounded(amount / 1e9)} GFLOP"


def _bytes(amount: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if amount >= size:
            return f"{rounded(amount / size, 2)} {unit}" if amount < 10 * size else f"{amount / size:,.0f} {unit}"
    return f"{amount / 1e3:,.0f} kB"
