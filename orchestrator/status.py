"""How far a study is, from its results root alone. No torch."""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import NamedTuple

from rich.console import Console
from rich.live import Live

from jobs.errors import Code, DamagedFile, InvalidRequest
from jobs.expansion import expand
from jobs.printable import one_line
from jobs.results import Failure, Launch, Store, mixed_trials, quarantined, read_failures, read_launches
from jobs.results.layout import log_key
from jobs.specs import AnySpec, Numerics
from jobs.study import Study
from orchestrator.earlier import Earlier, earlier_versions
from orchestrator.finished import standing
from orchestrator.older_numerics import NONE_OLDER
from orchestrator.streams import nobody_listens

_WATCH_SECONDS = 5.0


class Status(NamedTuple):
    """The trials of a study, each in exactly one of six states; they add up to ``planned``."""

    study: str
    planned: int
    done: set[str]
    quarantined: set[str]
    running: set[str]
    """In flight in a launch that shows signs of life."""
    failed: dict[str, Failure]
    """The last attempt failed and no other has succeeded: the next launch tries again."""
    pending: int
    live: list[Launch]
    stale: list[Launch]
    """Launches that ended without saying so."""
    older: dict[str, Numerics]
    """Trials whose results are of older numerics alone, each with these; done where they were accepted."""
    about_older: str | None
    """In words."""
    damaged: Mapping[str, str]
    """Trials whose result is torn, or no file, each with what to do."""
    earlier: Earlier
    """What earlier versions of the study have finished besides."""
    mixed: set[str] | str
    """Those done that ran on several kinds of device, or by several versions of torch; or why nobody knows."""

    def counts(self) -> dict[str, object]:
        """For machines: names as in ``status --json``."""
        return {
            "study": self.study,
            "planned": self.planned,
            "done": len(self.done),
            "running": len(self.running),
            "pending": self.pending,
            "failed": len(self.failed),
            "quarantined": len(self.quarantined),
            "damaged": len(self.damaged),
            "live_launches": [launch.launch for launch in self.live],
            "stale_launches": [launch.launch for launch in self.stale],
            "older_numerics": len(self.older),
            "accepted_numerics": len(self.older.keys() & self.done),
            "earlier_versions_done": len(self.earlier.trials),
            "mixed": None if isinstance(self.mixed, str) else len(self.mixed),
        }


def status_of(
    store: Store, study: Study, now: datetime | None = None, *, thorough: bool = True, accept: Numerics = NONE_OLDER
) -> Status:
    """Sort a study's trials into done, damaged, quarantined, running, failed and pending, in this order.

    Args:
        accept: results of these numerics, or of later ones, count as done, too (``accepted_numerics``).
        thorough: look into the results for those of several kinds of device, and at earlier versions of the study; all
            else is told by names of files.
    """
    now = now or datetime.now(UTC)
    specs = {spec.trial_id: spec for spec in expand(study)}
    planned = specs.keys()
    launches = read_launches(store)
    live = [launch for launch in launches if launch.alive(now)]
    failures = read_failures(store)
    known = standing(store, specs, accept)
    done = known.done
    torn = known.damaged.keys() - done
    blocked = (quarantined(failures) & planned) - done - torn
    running = {trial for launch in live for trial in launch.in_flight} & planned - done - torn - blocked
    last = {failure.trial_id: failure for failure in failures}
    failed = {trial: last[trial] for trial in sorted(last.keys() & planned - done - torn - blocked - running)}
    return Status(
        study=study.name,
        planned=len(planned),
        done=done,
        quarantined=blocked,
        running=running,
        failed=failed,
        pending=len(planned) - len(done) - len(torn) - len(blocked) - len(running) - len(failed),
        live=live,
        stale=[launch for launch in launches if launch.ended_at is None and not launch.alive(now)],
        older=known.older,
        about_older=known.about_older(accept),
        damaged=known.damaged,
        earlier=earlier_versions(store, study, specs) if thorough else Earlier(),
        mixed=_mixed(store, specs, done) if thorough else set(),
    )


def _mixed(store: Store, specs: Mapping[str, AnySpec], done: set[str]) -> set[str] | str:
    try:
        return mixed_trials(store, sorted({specs[trial].kind for trial in done})) & done
    except DamagedFile as error:
        return str(error)


def describe(status: Status) -> str:
    """The status in words, for a terminal."""
    counts = status.counts()
    states = ", ".join(
        f"{counts[state]:,} {state}" for state in ("done", "running", "pending", "failed", "quarantined")
    )
    if status.damaged:
        states += f", {len(status.damaged):,} damaged"
    lines = [f"{status.study}: {status.planned:,} trials: {states}"]
    if status.about_older:
        lines.append(status.about_older)
    lines += status.earlier.about
    if isinstance(status.mixed, str):
        lines.append(f"which trials ran on several kinds of device cannot be counted: {status.mixed}")
    elif status.mixed:
        lines.append(
            f"{len(status.mixed):,} of those done ran on several kinds of device, or by several versions of torch: "
            "their results name them (deltasweep verify)"
        )
    lines += [f"running: {launch.told}" for launch in status.live]
    lines += [
        f"stale: launch {launch.launch} on {launch.host} was last heard of at {launch.heartbeat_at}; resume goes on"
        for launch in status.stale
    ]
    lines += [f"failed, runs again with the next launch: {trial}: {f.signature}" for trial, f in status.failed.items()]
    lines += [f"damaged: {trial}: {said}" for trial, said in sorted(status.damaged.items())]
    lines += [f"quarantined: {trial}  (deltasweep logs {trial})" for trial in sorted(status.quarantined)]
    return "\n".join(map(one_line, lines))


def watch_status(store: Store, study: Study, console: Console, accept: Numerics = NONE_OLDER) -> None:
    """Show the status again and again until interrupted, or until nobody reads it."""
    with Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
        while not nobody_listens():
            now = describe(status_of(store, study, thorough=False, accept=accept))
            if live is not None:
                live.update(now, refresh=True)
            else:
                console.print(now, markup=False)
            time.sleep(_WATCH_SECONDS)


def failed_attempts(store: Store, trial: str) -> list[str]:
    """Header and log of each failed attempt at a trial, named by its id or the hash at its end.

    Raises:
        InvalidRequest: when no attempt at such a trial has failed.
    """
    found = [f for f in read_failures(store) if trial in (f.trial_id, f.trial_id.rpartition("-")[2])]
    if not found:
        raise InvalidRequest(
            Code.NO_ANSWER, f"{store.uri} has no failed attempt at a trial {trial!r}", file=store.uri, key="TRIAL"
        )
    return [_header(failure) + _log(store, failure) for failure in found]


def _header(failure: Failure) -> str:
    said = (
        f"== {failure.trial_id}, attempt {failure.attempt}, {failure.failed_at}, on {failure.host} "
        f"({failure.kind}): {failure.signature}"
    )
    return f"{one_line(said)}\n"


def _log(store: Store, failure: Failure) -> str:
    try:
        return store.read(log_key(failure.trial_id, failure.attempt)).decode()
    except FileNotFoundError:
        return "(its log is not in the root)"
