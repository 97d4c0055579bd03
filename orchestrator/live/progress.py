"""How fast a study runs and how long it still takes, and what that has cost so far."""

from collections.abc import Mapping, Set
from typing import NamedTuple

from jobs.errors import DeltaSweepError
from jobs.kind import workload
from jobs.provenance import THEN
from orchestrator.live.contents import Contents
from orchestrator.live.studies import Planned
from orchestrator.planning.flops import flops_alone
from orchestrator.planning.gpus import Gpu
from orchestrator.planning.pace import Finished, Pace, pace_of
from orchestrator.planning.plan import Plan, make_plan

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


def pace(contents: Contents, plan: Planned, done: Set[str], work: Work | None) -> Pace:
    """Return the pace of a study, as ``status`` does; nothing is known of one that no launch runs now.

    Args:
        work: weighs trials by their operations; None: all alike.
    """
    launches = [launch for launch in contents.launches if launch.study == plan.study.name]
    if not any(launch.alive(contents.at) for launch in launches):
        return Pace()
    runs = ((trial, contents.runs[trial]) for trial in done if trial in contents.runs)
    finished = (Finished(trial, run.launch, run.finished_at) for trial, run in runs)
    return pace_of(finished, launches, contents.at, lambda trial: weight(trial, work))


def weight(trial: str, work: Work | None) -> float:
    """Return the work of a trial: its operations, or 1 where they are not known."""
    return 1.0 if work is None else work.flops.get(trial, 1.0)


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
