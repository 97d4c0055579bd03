"""How long a launch of this machine alone takes, and how many actors it runs at once. No torch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heapreplace
from typing import NamedTuple

from jobs.kind import workload
from jobs.specs.trial import TrialSpec
from jobs.study.model import Study
from orchestrator.planning.bundles import bundled
from orchestrator.planning.stages import stages_of


class LaunchHere(NamedTuple):
    """A launch on the cores of this machine."""

    actors: int
    """The most that run at once."""
    seconds: float
    """Until the last one ends, if each takes as much processor time beside others as alone."""


def launch_here(
    study: Study,
    specs: Mapping[str, TrialSpec],
    pending: Sequence[str],
    seconds: Callable[[Sequence[TrialSpec]], float],
    cores: int,
) -> LaunchHere:
    """Run the pending trials on paper, as a launch does: stage by stage, in each the longest actor first.

    Args:
        specs: all trials of the study, by id.
        seconds: returns the time of an actor: of a trial, or of a bundle; in one process, on a core for each thread.
        cores: of this machine.
    """
    most, total = 0, 0.0
    for stage in stages_of(study, specs, pending):
        actors = bundled([specs[trial] for trial in stage.trials], study.bundle)
        replicas = workload(actors[0][0], study.catalog).replicas
        times = [seconds(actor) / replicas for actor in actors]
        slots = max(1, int(cores / stage.resources.cpu))
        most = max(most, min(slots, len(times)))
        # actors may use more cores than they reserve, and then share those that there are
        busy = sum(time * replicas * actor[0].recipe.threads for time, actor in zip(times, actors, strict=True))
        total += max(makespan(times, slots), busy / cores)
    return LaunchHere(most, total)


def makespan(times: Iterable[float], slots: int) -> float:
    """Return when the last of some tasks ends, if each of the slots takes the longest that is left."""
    ends = [0.0] * slots
    for time in sorted(times, reverse=True):
        heapreplace(ends, ends[0] + time)
    return max(ends)
