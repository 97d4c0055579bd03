"""What the first page shows of one study."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from markupsafe import Markup

from analysis.paired.contrasts import newest_versions
from analysis.words import depth_text, size_text
from jobs.results import Launch
from orchestrator.live.charts import Panel, Summary, curve_chart, delta_panels, summaries
from orchestrator.live.comparisons import Curve, Deltas, curves, deltas, depths, first_cell, recipe_names
from orchestrator.live.contents import Contents
from orchestrator.live.heatmap import HeatMap, OfKind, heat_map, other_kinds
from orchestrator.live.machines import Machines, machines
from orchestrator.live.progress import Spent, Work, pace, spent, weight
from orchestrator.live.studies import Planned, Recorded, Standing, recorded, standing
from orchestrator.live.watch import Watch
from orchestrator.planning.pace import Pace

_ENDED = "ended"


class Money(NamedTuple):
    """What a study has cost so far, beside its plan."""

    so_far: Spent
    dollars: float | None
    """At the plan's price; None: it ran on processors, or no price is known."""
    plan_gpu_hours: float | None
    plan_dollars: float | None
    gpu: str
    price: float | None
    planning: bool
    """Whether the plan is still being computed."""


class Now(NamedTuple):
    """The state of a study in numbers."""

    planned: int
    done: int
    running: int
    failed: int
    pending: int
    state: str
    """One of: running, stale, ended."""
    launches: list[Launch]
    """The live launches of the study, or its last one; none if its trials ran by themselves."""
    pace: Pace
    seconds_left: float | None
    """Until the pending, running and failed trials are done at this pace, by their planned work; None if unknown."""
    ends: datetime | None
    money: Money
    kinds: list[OfKind]


class Cell(NamedTuple):
    """The cell whose curves are shown."""

    key: str
    dataset: str
    images: int
    blocks: int
    curves: list[Curve]
    chart: Markup
    legend: list[tuple[int, str, int, int, float | None]]
    """Of each source: its number, name, finished and running trials, and the mean accuracy at the last epoch."""


class Overview(NamedTuple):
    """The values of the templates of the first page."""

    asked: Mapping[str, str]
    """The address of this view."""
    contents: Contents
    studies: list[Recorded]
    study: Recorded | None
    """None: the root has none."""
    plan: Planned | None
    why_no_plan: str
    standing: Standing | None
    now: Now | None
    machines: Machines | None
    heat: HeatMap | None
    recipes: dict[str, str]
    recipe: str
    depths: list[int]
    deltas: Deltas | None
    panels: list[Panel]
    summaries: list[Summary]
    cell: Cell | None


def overview(watch: Watch, contents: Contents, asked: Mapping[str, str]) -> Overview:
    """Compute the first page.

    Args:
        asked: ``study``, ``recipe`` (its digest), ``blocks`` of the deltas, ``cell`` of the curves; what is missing or
            unknown has a default, except for a study.

    Raises:
        LookupError: for an unknown study.
    """
    studies = recorded(contents)
    named = [record for record in studies if record.name == asked.get("study")]
    if asked.get("study") and not named:
        raise LookupError(f"this results root has no study {asked['study']!r}")
    record = next(iter(named or studies), None)
    plan = watch.plan(record) if record else None
    kept = {name: value for name, value in asked.items() if name in ("study", "recipe", "blocks", "cell")}
    if record is None or not isinstance(plan, Planned):
        return Overview(kept, contents, studies, record, None, plan if isinstance(plan, str) else "", *_nothing())
    now = standing(plan, contents)
    recipe = asked["recipe"] if asked.get("recipe") in plan.recipes else next(iter(plan.recipes), "")
    levels = depths(plan)
    depth = next((level for level in levels if str(level) == asked.get("blocks")), levels[0] if levels else 0)
    heat = heat_map(plan, now, recipe) if plan.tuned else None
    compared = deltas(contents, plan, now, recipe, depth) if plan.tuned else None
    names = _sources(watch, contents)
    return Overview(
        asked=kept,
        contents=contents,
        studies=studies,
        study=record,
        plan=plan,
        why_no_plan="",
        standing=now,
        now=_now(watch, contents, plan, now, record),
        machines=machines(contents, plan, now),
        heat=heat,
        recipes=recipe_names(contents, plan),
        recipe=recipe,
        depths=levels,
        deltas=compared,
        panels=delta_panels(compared, names) if compared and compared.cells else [],
        summaries=summaries(compared, names) if compared else [],
        cell=_cell(contents, plan, now, recipe, asked.get("cell", ""), heat, levels[0], names) if heat else None,
    )


def _sources(watch: Watch, contents: Contents) -> list[str]:
    """Return all sources of the root, whose places decide their looks: ``analysis.paired.names.sources_in``."""
    versions = newest_versions(contents.studies, contents.launches)
    return sorted(contents.sources.union(*map(watch.sources, versions)))


def _nothing() -> tuple[None, None, None, None, dict[str, str], str, list[int], None, list[Panel], list[Summary], None]:
    return None, None, None, None, {}, "", [], None, [], [], None


def _now(watch: Watch, contents: Contents, plan: Planned, now: Standing, record: Recorded) -> Now:
    own = [launch for launch in contents.launches if launch.study == record.name]
    live = [launch for launch in own if launch.alive(contents.at)]
    work = watch.work(record)
    rate = pace(contents, plan, now.done, work)
    left = rate.seconds_left(sum(weight(trial, work) for trial in now.pending | now.running | now.failed.keys()))
    soon = bool(live) and left is not None and left < timedelta(days=3650).total_seconds()
    ends = contents.at + timedelta(seconds=left or 0.0) if soon else None
    return Now(
        planned=len(plan.specs),
        done=len(now.done),
        running=len(now.running),
        failed=len(now.not_well),
        pending=len(now.pending),
        state="running" if live else "stale" if own and own[-1].ended_at is None else _ENDED,
        launches=live or own[-1:],
        pace=rate,
        seconds_left=left,
        ends=ends,
        money=_money(watch, spent(contents, plan, watch.gpu), work),
        kinds=other_kinds(plan, now),
    )


def _money(watch: Watch, so_far: Spent, work: Work | None) -> Money:
    offer, estimate = watch.gpu.on_demand, work.plan if work else None
    price = offer.dollars if offer else None
    dollars = so_far.gpu_hours * price if price is not None and so_far.gpu_hours else None
    return Money(
        so_far,
        dollars,
        estimate.gpu_hours if estimate else None,
        estimate.on_demand if estimate else None,
        watch.gpu.name,
        price,
        work is None,
    )


def cell_key(dataset: str, images: int, blocks: int) -> str:
    """Return the text that stands for a cell in addresses."""
    return f"{dataset}.{images}.{blocks}"


def _cell(
    contents: Contents,
    plan: Planned,
    now: Standing,
    recipe: str,
    asked: str,
    heat: HeatMap,
    headline: int,
    sources: Sequence[str],
) -> Cell | None:
    chosen = first_cell(heat, headline)
    for place in plan.places.get(recipe, {}).values():
        if asked and cell_key(place.dataset, place.images, place.blocks) == asked:
            chosen = place.dataset, place.images, place.blocks
            break
    if chosen is None:
        return None
    dataset, images, blocks = chosen
    found = curves(contents, plan, now, recipe, chosen)
    legend = []
    for source in plan.sources:
        own = [curve for curve in found if curve.source == source]
        mean = next((curve for curve in own if not curve.trial_id), None)
        running = sum(curve.running for curve in own)
        last = mean.points[-1][1] if mean and mean.points else None
        legend.append((sources.index(source), source, mean.trials if mean else 0, running, last))
    words = f"{dataset}, {size_text(images)} images, {depth_text(blocks)}"
    chart = curve_chart(found, sources, f"Test accuracy by epoch: {words}; the table beside it has the last values.")
    return Cell(cell_key(*chosen), dataset, images, blocks, found, chart, legend)
