"""How fast the trials of a study finish, from the times in their results: for ``status`` and the live page. No torch.

A launch that is running shows another number (``orchestrator.launching.progress``): that of its own trials since it
began, also of those that failed, which no result tells.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from jobs.results import Launch, Store
from jobs.results.reader import read_trials
from jobs.specs.trial import TrialSpec

_RECENT = timedelta(hours=1)
_EVER = datetime.min.replace(tzinfo=UTC)


class Finished(NamedTuple):
    """When a trial finished."""

    trial: str
    launch: str | None
    """The launch that ran it."""
    at: str | None
    """UTC, ISO 8601, as in its result."""


class Pace(NamedTuple):
    """Finished trials per hour in which a launch of the study was running; None: no such hour is known."""

    last_hour: float | None = None
    """Of the last 60 minutes."""
    whole: float | None = None
    """Of all launches."""
    work: float | None = None
    """The work of trials that finished, per hour: in the last 60 minutes or, if none did, in all launches."""

    @property
    def per_hour(self) -> float | None:
        """The rate of the last 60 minutes or, if no trial finished in them, of all launches; None if none has."""
        return self.last_hour or self.whole or None

    def seconds_left(self, work: float) -> float | None:
        """Return the time that this work takes at this rate of work; None: unknown."""
        if not work:
            return 0.0
        return work / self.work * 3600 if self.work else None


def finished_trials(store: Store, specs: Mapping[str, TrialSpec], done: Iterable[str]) -> list[Finished]:
    """Read when the finished trials of a study ended.

    Args:
        done: their ids.

    Raises:
        DamagedFile: naming the first file that is not a result of its kind.
    """
    wanted, found = set(done), list[Finished]()
    for kind in sorted({specs[trial].kind for trial in wanted}):
        table = read_trials(store, kind, ["trial_id", "launch", "finished_at"])
        rows = zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
        found += {row[0]: Finished(*row) for row in rows if row[0] in wanted}.values()
    return found


def pace_of(
    finished: Iterable[Finished], launches: Iterable[Launch], now: datetime, work: Callable[[str], float]
) -> Pace:
    """Return how fast trials of a study finish.

    Args:
        finished: each finished trial of the study once.
        launches: those of the study; trials that none of them finished are left out.
        work: of a trial, in any unit.
    """
    known = {launch.launch: launch for launch in launches}
    times = {one.trial: at for one in finished if one.launch in known and (at := _time(one.at)) is not None}
    spans = [(datetime.fromisoformat(launch.started_at), _end(launch, now)) for launch in known.values()]
    since = now - _RECENT
    recent, hours = [trial for trial, at in times.items() if at >= since], _hours(spans, since)
    whole = _hours(spans)
    counted, span = (recent, hours) if recent else (list(times), whole)
    return Pace(_rate(len(recent), hours), _rate(len(times), whole), _rate(sum(map(work, counted)), span))


def _time(text: str | None) -> datetime | None:
    """Return the time in a result; None if a stranger wrote something else there."""
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


def _end(launch: Launch, now: datetime) -> datetime:
    """Return when a launch ended, or until when it is known to have run."""
    if launch.alive(now):
        return now
    return datetime.fromisoformat(launch.ended_at or launch.heartbeat_at)


def _hours(spans: Iterable[tuple[datetime, datetime]], since: datetime = _EVER) -> float:
    """Return the hours that the spans cover together, from ``since`` on."""
    covered, reached = timedelta(), since
    for start, end in sorted(spans):
        if end > reached:
            covered += end - max(start, reached)
            reached = end
    return covered.total_seconds() / 3600


def _rate(trials: float, hours: float) -> float | None:
    return trials / hours if hours > 0 else None
