"""Progress of a study, from its results root alone. No torch."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import NamedTuple

from rich.console import Console
from rich.live import Live

from jobs.catalog.catalog import Catalog
from jobs.errors import DamagedFile, DeltaSweepError
from jobs.results import Failure, Launch, Store, mixed_trials, quarantined, read_failures, read_launches
from jobs.specs.canonical import canonical_json
from jobs.specs.trial import Numerics, TrialSpec, recipe_digest
from jobs.study.expand import expand
from jobs.study.model import Study
from jobs.system.commands import command
from jobs.system.printable import one_line
from orchestrator.failures.retry_policy import RetryPolicy
from orchestrator.planning.dependencies import completion_of
from orchestrator.planning.flops import trial_flops
from orchestrator.planning.older_numerics import NONE_OLDER
from orchestrator.planning.pace import Pace, finished_trials, pace_of
from orchestrator.planning.trial_states import STATES, TrialState
from orchestrator.process.numbers_as_text import duration
from orchestrator.process.streams import nobody_listens
from orchestrator.process.terminal import can_redraw
from orchestrator.study.earlier import Earlier, earlier_versions

_WATCH_SECONDS = 5.0
_REST = 9.0
"""Least time between two looks, in times of a look, which takes seconds for the largest studies."""


class Status(NamedTuple):
    """The trials of a study, each in exactly one of six states that add up to ``planned``."""

    study: str
    planned: int
    done: set[str]
    quarantined: set[str]
    running: set[str]
    """Trials that a live launch is running."""
    failed: dict[str, Failure]
    """Last failures of trials without a result. The next launch retries them."""
    pending: int
    at: datetime
    """The time to which ``live`` and ``stale`` refer."""
    live: list[Launch]
    """Those of any study, because studies may share trials."""
    stale: list[Launch]
    """Launches that ended without recording their end."""
    older: dict[str, Numerics]
    """Trials that only have results with older numerics versions, with these versions. Accepted ones are also done."""
    about_older: str | None
    """Description of these trials."""
    damaged: Mapping[str, str]
    """Remedies by trial id, for trials whose result is damaged or not a file."""
    earlier: Earlier
    """Additional finished trials of earlier versions of the study."""
    mixed: set[str] | str
    """Done trials that ran on several kinds of device or versions of torch, or why this is unknown."""
    specs: Mapping[str, TrialSpec]
    """The trials of the study by id, in the order of the study."""
    pace: Pace
    seconds_left: float | None
    """Until the study is finished at this pace, by its planned work; None if no launch of it runs, or unknown."""

    def state_of(self, trial: str) -> TrialState:
        """Return the state of one of the study's trials."""
        holders = {
            "done": self.done,
            "damaged": self.damaged.keys() - self.done,
            "quarantined": self.quarantined,
            "running": self.running,
            "failed": self.failed,
        }
        return next((state for state in STATES if trial in holders.get(state, ())), "pending")

    def states(self) -> dict[str, TrialState]:
        """Return the state of each of the study's trials, in the order of the study."""
        return {trial: self.state_of(trial) for trial in self.specs}

    def cells(self) -> list[dict[str, object]]:
        """Return the counts of each cell: of trials that differ in nothing but their seeds."""
        counts = dict[str, Counter[str]]()
        cells = dict[str, dict[str, object]]()
        for trial, state in self.states().items():
            spec = self.specs[trial]
            choices = {name: value for name, value in spec.choices.items() if not name.endswith("seed")}
            choices.pop("finetuned", None)  # the id of a trial, which has a seed
            cell = {"kind": spec.kind, **choices, "recipe": recipe_digest(spec.recipe)}
            key = canonical_json(cell)
            cells[key] = cell
            counts.setdefault(key, Counter())[state] += 1
        return [{**cell, **{state: counts[key][state] for state in STATES}} for key, cell in cells.items()]

    def plain(self) -> dict[str, object]:
        """Return the status as in ``status --json``."""
        return {
            **self.counts(),
            "trials_per_hour": {"last_hour": self.pace.last_hour, "whole": self.pace.whole},
            "seconds_left": self.seconds_left,
            "cells": self.cells(),
        }

    def counts(self) -> dict[str, object]:
        """Return the counts."""
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
    store: Store,
    study: Study,
    now: datetime | None = None,
    *,
    thorough: bool = True,
    paced: bool = False,
    accept: Numerics = NONE_OLDER,
    quarantine_after: int = RetryPolicy.quarantine_after,
) -> Status:
    """Classify a study's trials as done, damaged, quarantined, running, failed or pending, in this order of precedence.

    Args:
        accept: The oldest numerics versions whose results also count as done (``accepted_numerics``).
        thorough: Also read the results for trials on several kinds of device, the pace, and earlier versions of the
            study. Everything else follows from file names.
        paced: Also read the results for the pace while a launch of the study runs.
        quarantine_after: As in ``RetryPolicy``.
    """
    now = now or datetime.now(UTC)
    specs = {spec.trial_id: spec for spec in expand(study)}
    planned = specs.keys()
    launches = read_launches(store)
    live = [launch for launch in launches if launch.alive(now)]
    failures = read_failures(store)
    known = completion_of(store, specs, accept)
    done = known.done
    torn = known.damaged.keys() - done
    blocked = (quarantined(failures, quarantine_after) & planned) - done - torn
    running = {trial for launch in live for trial in launch.in_flight} & planned - done - torn - blocked
    last = {failure.trial_id: failure for failure in failures}
    failed = {trial: last[trial] for trial in sorted(last.keys() & planned - done - torn - blocked - running)}
    own = [launch for launch in launches if launch.study == study.name]
    runs = any(launch.alive(now) for launch in own)
    read = thorough or (paced and runs)
    work = _work(specs, study.catalog) if read and runs else _alike
    pace = _pace(store, specs, done, own, now, work) if read else Pace()
    left = planned - done - torn - blocked
    return Status(
        study=study.name,
        planned=len(planned),
        done=done,
        quarantined=blocked,
        running=running,
        failed=failed,
        pending=len(planned) - len(done) - len(torn) - len(blocked) - len(running) - len(failed),
        at=now,
        live=live,
        stale=[launch for launch in launches if launch.ended_at is None and not launch.alive(now)],
        older=known.older,
        about_older=known.about_older(accept),
        damaged=known.damaged,
        earlier=earlier_versions(store, study, specs) if thorough else Earlier(),
        mixed=_mixed(store, specs, done) if thorough else set(),
        specs=specs,
        pace=pace,
        seconds_left=pace.seconds_left(sum(map(work, left))) if read and runs else None,
    )


def _pace(
    store: Store,
    specs: Mapping[str, TrialSpec],
    done: set[str],
    own: list[Launch],
    now: datetime,
    work: Callable[[str], float],
) -> Pace:
    try:
        finished = finished_trials(store, specs, done)
    except DamagedFile:
        return Pace()  # `mixed` names the file
    return pace_of(finished, own, now, work)


def _work(specs: Mapping[str, TrialSpec], catalog: Catalog) -> Callable[[str], float]:
    """Return a function that returns a trial's planned operations; 1 for all where this machine cannot plan one."""
    try:
        flops = {trial: trial_flops(spec, catalog).total for trial, spec in specs.items()}
    except DeltaSweepError:  # an architecture that this version does not know
        return _alike
    return flops.__getitem__


def _alike(trial: str) -> float:
    return 1.0


def _mixed(store: Store, specs: Mapping[str, TrialSpec], done: set[str]) -> set[str] | str:
    try:
        return mixed_trials(store, sorted({specs[trial].kind for trial in done})) & done
    except DamagedFile as error:
        return str(error)


def describe(status: Status) -> str:
    """Return the status as text for a terminal."""
    counts = status.counts()
    states = ", ".join(
        f"{counts[state]:,} {state}" for state in ("done", "running", "pending", "failed", "quarantined")
    )
    if status.damaged:
        states += f", {len(status.damaged):,} damaged"
    lines = [f"{status.study}: {status.planned:,} trials: {states}", *_pace_lines(status)]
    if status.about_older:
        lines.append(status.about_older)
    lines += status.earlier.about
    if isinstance(status.mixed, str):
        lines.append(f"cannot count the trials that ran on several kinds of device: {status.mixed}")
    elif status.mixed:
        lines.append(
            f"{len(status.mixed):,} of the done trials ran on several kinds of device or versions of torch, which are "
            "recorded in their results (deltasweep verify)"
        )
    lines += [f"running: {', '.join(filter(None, (one.told, one.about_clock(status.at))))}" for one in status.live]
    lines += [
        f"stale: {launch.told}, {_last_heartbeat(launch, status.at)}; continue with resume --study {launch.study}"
        for launch in status.stale
    ]
    lines += [f"failed, retried by the next launch: {trial}: {f.signature}" for trial, f in status.failed.items()]
    lines += [f"damaged: {trial}: {remedy}" for trial, remedy in sorted(status.damaged.items())]
    lines += [f"quarantined: {trial}  ({command('logs', trial)})" for trial in sorted(status.quarantined)]
    return "\n".join(map(one_line, lines))


def _last_heartbeat(launch: Launch, now: datetime) -> str:
    return launch.about_clock(now) or f"last heartbeat {launch.heartbeat_at}"


def _pace_lines(status: Status) -> list[str]:
    """Return the line about the pace of a study that is running."""
    if status.seconds_left is None or status.pace.per_hour is None:
        return []
    return [f"{status.pace.per_hour:.1f} trials per hour; {duration(status.seconds_left)} left"]


def watch_status(store: Store, study: Study, console: Console, accept: Numerics = NONE_OLDER) -> None:
    """Show the status repeatedly until interrupted or until standard output is closed."""
    with Live(console=console, auto_refresh=False) if can_redraw(console) else nullcontext() as live:
        while not nobody_listens():
            began = time.monotonic()
            now = describe(status_of(store, study, thorough=False, paced=True, accept=accept))
            if live is not None:
                live.update(now, refresh=True)
            else:
                console.print(now, markup=False)
            time.sleep(max(_WATCH_SECONDS, _REST * (time.monotonic() - began)))
