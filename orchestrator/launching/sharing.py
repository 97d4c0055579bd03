"""Launches that run the same trials at the same time: which they are, and in which order each takes the trials.

A launch cannot know how fast others are, nor which of them will follow, so trials are not divided: every launch takes
all of them, each from another place, and leaves out what is done when its turn comes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import UTC, datetime, timedelta
from itertools import accumulate, count

from jobs.errors import DamagedFile, InvalidRequest
from jobs.results import Launch, Store, readable_launches
from jobs.results.launches import STALE_SECONDS
from jobs.results.layout import study_key
from jobs.results.studies import read_study
from jobs.study.expand import expand
from orchestrator.study.history import parse_recorded


def others_sharing(store: Store, own: Launch, trials: Set[str]) -> list[Launch]:
    """Return the other launches of the same study, also those that have ended, and the running ones of other studies
    that contain some of the trials. Launches whose records cannot be read are left out.
    """
    now = datetime.now(UTC)
    others = [launch for launch in readable_launches(store) if launch.launch != own.launch]
    return [
        other
        for other in others
        if other.digest == own.digest or (other.alive(now) and _contains(store, other, trials))
    ]


def _contains(store: Store, other: Launch, trials: Set[str]) -> bool:
    try:
        study = parse_recorded(store, read_study(store, study_key(other.study, other.digest)))
    except (DamagedFile, InvalidRequest, FileNotFoundError):
        return not trials.isdisjoint(other.in_flight)
    return any(spec.trial_id in trials for spec in expand(study))


def place_among(own: Launch, others: Iterable[Launch]) -> int:
    """Return the launch's place: the smallest one that none of those running when it began had; 0 for the first.

    It follows from the records alone, so that launches that begin at the same time and find each other's records come
    to different places.
    """
    places = dict[str, int]()
    running = list[tuple[datetime, str]]()
    """Each earlier launch with the time until which others may have considered it running."""
    for launch in sorted([own, *others], key=lambda launch: (_time(launch.started_at), launch.launch)):
        running = [(until, name) for until, name in running if until >= _time(launch.started_at)]
        taken = {places[name] for _, name in running}
        places[launch.launch] = next(place for place in count() if place not in taken)
        running.append((_until(launch), launch.launch))
    return places[own.launch]


def _until(launch: Launch) -> datetime:
    if launch.ended_at is not None:
        return _time(launch.ended_at)
    return _time(launch.heartbeat_at) + timedelta(seconds=STALE_SECONDS)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


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
