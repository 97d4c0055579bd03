"""Launches that run the same trials at the same time: which they are, and in which order each takes the trials.

A launch cannot know how fast others are, nor which of them will follow, so trials are not divided: every launch takes
all of them, each from another place, and leaves out what is done when its turn comes.
"""

import math
from collections.abc import Mapping, Sequence, Set
from datetime import UTC, datetime
from itertools import accumulate, count, islice

from jobs.errors import DamagedFile, InvalidRequest
from jobs.results import Launch, Store, readable_launches
from jobs.results.layout import study_key
from jobs.results.studies import read_study
from jobs.study.expand import expand
from orchestrator.study.history import parse_recorded


def others_sharing(store: Store, own: Launch, trials: Set[str]) -> list[Launch]:
    """Return the other running launches: those of the same study, and those of other studies that contain some of the
    trials. Launches whose records cannot be read are left out.
    """
    now = datetime.now(UTC)
    running = [launch for launch in readable_launches(store) if launch.launch != own.launch and launch.alive(now)]
    return [other for other in running if other.digest == own.digest or _contains(store, other, trials)]


def _contains(store: Store, other: Launch, trials: Set[str]) -> bool:
    try:
        study = parse_recorded(store, read_study(store, study_key(other.study, other.digest)))
    except (DamagedFile, InvalidRequest, FileNotFoundError):
        return not trials.isdisjoint(other.in_flight)
    return any(spec.trial_id in trials for spec in expand(study))


def place_among(own: Launch, others: Sequence[Launch]) -> int:
    """Return the launch's place: the smallest one that no other launch has; 0 for the first.

    Launches record their places. Others may see other launches, and other clocks, and would come to other places from
    the rest of the records. Only those that begin at the same time, and find each other without a place, take the free
    ones in the order of their starts.

    Args:
        others: Running launches of the same trials (``others_sharing``).
    """
    taken = {other.place for other in others}
    free = (place for place in count() if place not in taken)
    first = sum(other.place is None and _start(other) < _start(own) for other in others)
    return next(islice(free, first, None))


def _start(launch: Launch) -> tuple[datetime, str]:
    return datetime.fromisoformat(launch.started_at), launch.launch


def from_place(trials: Sequence[str], place: int, operations: Mapping[str, float]) -> list[str]:
    """Return trials, given in the order of a launch that runs alone, in the order of a launch at a place.

    Place 0 keeps the order, and place 1 reverses it: the two meet. All others begin where a part of the work lies
    before them and continue in the usual order, with the first trials last: a half, a quarter, three quarters, an
    eighth, and so on.
    """
    if place < 2:
        return list(trials if place == 0 else reversed(trials))
    before = list(accumulate((operations[trial] for trial in trials), initial=0.0))
    aim = _part(place - 1) * before[-1]
    start = min(range(1, len(trials)), key=lambda index: abs(before[index] - aim), default=0)
    return [*trials[start:], *trials[:start]]


def _part(number: int) -> float:
    """Return 1/2, 1/4, 3/4, 1/8, 5/8, ... for 1, 2, 3, 4, 5, ...: the mirrored binary digits of the number."""
    digits = f"{number:b}"
    return math.ldexp(int(digits[::-1], 2), -len(digits))
