"""How fast the trials of a study finish, from the times in their results. No torch."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from jobs.results import Launch, Store
from jobs.results.reader import read_trials
from jobs.specs.trial import TrialSpec

_RECENT = timedelta(hours=1)
_EVER = datetime.min.replace(tzinfo=UTC)


class Pace(NamedTuple):
    """Finished trials per hour in which a launch of the study was running; None: no such hour is known."""

    last_hour: float | None = None
    """Of the last 60 minutes."""
    whole: float | None = None
    """Of all launches."""
    work: float | None = None
    """Their work in the last 60 minutes, per hour."""

    def seconds_left(self, work: float) -> float | None:
        """Return the time that this work takes at the rate of the last hour; None: unknown."""
        if not work:
            return 0.0
        return work / self.work * 3600 if self.work else None


def pace_of(
    store: Store,
    specs: Mapping[str, TrialSpec],
    done: Iterable[str],
    launches: Iterable[Launch],
    now: datetime,
    work: Callable[[str], float],
) -> Pace:
    """Return how fast trials of a study finish.

    Args:
        done: the finished trials of the study.
        launches: those of the study; trials that none of them finished are left out.
        work: of a trial, in any unit.

    Raises:
        DamagedFile: naming the first file that is not a result of its kind.
    """
    known = {launch.launch: launch for launch in launches}
    finished = dict[str, datetime]()
    wanted = set(done)
    for kind in sorted({specs[trial].kind for trial in wanted}):
        table = read_trials(store, kind, ["trial_id", "launch", "finished_at"])
        for trial, launch, at in zip(*(table[name].to_pylist() for name in table.column_names), strict=True):
            if trial in wanted and launch in known and at:
                finished[trial] = datetime.fromisoformat(at)
    spans = [(datetime.fromisoformat(launch.started_at), _end(launch, now)) for launch in known.values()]
    since = now - _RECENT
    recent, hours = [trial for trial, at in finished.items() if at >= since], _hours(spans, since)
    return Pace(_rate(len(recent), hours), _rate(len(finished), _hours(spans)), _rate(sum(map(work, recent)), hours))


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
