"""How fast a study runs and how long it still takes, and what that has cost so far."""

from collections.abc import Collection, Mapping, Set
from datetime import datetime, timedelta
from typing import NamedTuple

from jobs.errors import DeltaSweepError
from jobs.kind import workload
from jobs.provenance import THEN
from orchestrator.live.contents import Contents
from orchestrator.live.studies import Planned
from orchestrator.planning.flops import flops_alone
from orchestrator.planning.gpus import Gpu
from orchestrator.planning.plan import Plan, make_plan

_RECENT = 200
"""The rate is that of this many trials that finished last."""
_IS_GPU = ", sm_"
"""Occurs in the kind of a device that is a GPU."""


class Work(NamedTuple):
    """What a study costs, as planned."""

    flops: Mapping[str, float]
    """Operations of each trial alone, by trial id."""
    plan: Plan | None
    """None: it cannot be estimated."""


def work_of(plan: Planned, gpu: Gpu) -> Work:
    """Estimate the work of a whole study, finished trials included. It takes a second for 14,400 trials."""
    catalog = plan.study.catalog
    try:
        flops = {trial: flops_alone(workload(spec, catalog)).total for trial, spec in plan.specs.items()}
        return Work(flops, make_plan(plan.study, plan.specs.values(), set(), set(), gpu))
    except DeltaSweepError:  # an unknown rate, or an architecture that this version does not know
        return Work({}, None)


class Pace(NamedTuple):
    """How fast trials finish."""

    per_hour: float | None
    """None: none has finished yet."""
    seconds_left: float | None
    """Until the pending and running trials are done at this pace, by their planned work; None if unknown."""


def pace(contents: Contents, plan: Planned, done: Set[str], left: Collection[str], work: Work | None) -> Pace:
    """Return the pace of the live launches of a study.

    Args:
        left: the trials that a launch still runs.
        work: weighs trials by their operations; None: all alike.
    """
    launches = {launch.launch: launch for launch in contents.live if launch.study == plan.study.name}
    if not launches:
        return Pace(None, None)
    times = sorted(
        (run.finished_at, trial)
        for trial, run in contents.runs.items()
        if run.launch in launches and run.finished_at and trial in done
    )
    recent = times[-_RECENT:]
    if not recent:
        return Pace(None, None)
    begun = recent[0][0] if len(times) > _RECENT else min(launch.started_at for launch in launches.values())
    seconds = _seconds_between(begun, max(contents.at.isoformat(), recent[-1][0]))
    if seconds is None:
        return Pace(None, None)
    flops = work.flops if work is not None else {}
    finished = sum(flops.get(trial, 1.0) for _, trial in recent)
    missing = sum(flops.get(trial, 1.0) for trial in left)
    return Pace(3600 * len(recent) / seconds, missing / finished * seconds if finished else None)


def _seconds_between(begun: str, ended: str) -> float | None:
    try:
        span = datetime.fromisoformat(ended) - datetime.fromisoformat(begun)
    except (ValueError, TypeError):  # times of a stranger
        return None
    return max(span / timedelta(seconds=1), 1.0)


class Spent(NamedTuple):
    """The time that a study's trials have taken so far, finished and running ones; failed attempts are not recorded."""

    gpu_hours: float
    """GPU time: seconds of trials times the GPUs that each reserves."""
    processor_hours: float
    """Time of trials that ran on processors."""


def spent(contents: Contents, plan: Planned, gpu: Gpu) -> Spent:
    """Sum up the time of a study's finished and running trials, on GPUs like ``gpu``."""
    times = [(trial, run.seconds, run.device_kind) for trial, run in contents.runs.items() if trial in plan.specs]
    times += [(trial, one.seconds, THEN.join(one.device_kinds)) for trial, one in contents.running.items()]
    on_gpu = on_processor = 0.0
    for trial, seconds, device in times:
        if seconds is None or trial not in plan.specs:
            continue
        if device is not None and _IS_GPU in device:
            on_gpu += seconds * plan.gpu_shares(gpu.memory)[trial]
        else:
            on_processor += seconds
    return Spent(on_gpu / 3600, on_processor / 3600)
