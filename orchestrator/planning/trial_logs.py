"""What is known about the attempts at one trial: failed, finished and running ones. No torch."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

from jobs.errors import Code, InvalidRequest
from jobs.kind import kinds
from jobs.provenance import UNKNOWN
from jobs.results import Failure, Launch, Store, next_attempt, read_failures, read_launches
from jobs.results.layout import (
    checkpoint_position,
    checkpoints_prefix,
    log_key,
    output_key,
    trial_id_at,
    trial_key,
    trials_prefix,
)
from jobs.results.parquet import decode_trial
from jobs.results.schema import most_bytes, numbering, varying
from jobs.system.commands import command
from jobs.system.printable import listing, one_line, shown
from orchestrator.planning.trial_names import is_named, short_name
from orchestrator.process.numbers_as_text import numbers_of
from orchestrator.process.streams import nobody_listens
from orchestrator.process.tail import new_part
from orchestrator.study.history import planned_trials

_FOLLOW_SECONDS = 2.0

Texts: TypeAlias = Callable[[str], str]
"""Returns the text under a key of a results root; empty if there is none."""


class LoggedAttempt(NamedTuple):
    """One attempt at a trial."""

    trial: str
    attempt: int
    """From 1; 0: unknown."""
    state: Literal["failed", "done", "running"]
    header: str
    """One line that describes it."""
    log: str
    """The traceback of a failed attempt, the evaluations of a finished one, the position of a running one."""
    output: str
    """The end of what its actor printed, if that is in the root."""

    def text(self) -> str:
        return f"{one_line(self.header)}\n{self.body}"

    @property
    def body(self) -> str:
        """What it printed, then its log."""
        return "".join(map(_ended, filter(None, (self.output, self.log))))


def attempts_of(store: Store, trial: str) -> list[LoggedAttempt]:
    """Return the attempts at a trial: the failed ones, then the one that finished or is running, if any.

    Args:
        trial: Trial id, the hash at its end, or what progress calls the only such trial.

    Raises:
        InvalidRequest: If the root knows no attempt at such a trial.
    """
    if attempts := _attempts(store, trial):
        return attempts
    meant = {name: attempts for name in _called(store, trial) if (attempts := _attempts(store, name))}
    if len(meant) == 1:
        return next(iter(meant.values()))
    if meant:
        raise InvalidRequest(
            Code.UNKNOWN_NAME,
            f"expected one trial; {shown(trial)} is the name of {len(meant)}: {listing(sorted(meant))}. Fix: give one "
            "of these ids",
            file=store.uri,
            key="TRIAL",
        )
    lists = command("trials", "list", "STUDY", "--results", store.uri)
    raise InvalidRequest(
        Code.NO_ANSWER,
        f"expected a trial that has run or is running in {store.uri}; got {trial!r}, which is unknown there. A "
        f"trial that has just started is known after 30 s. Fix: {lists} --state running lists what runs, {lists} all "
        "trials with their states",
        file=store.uri,
        key="TRIAL",
    )


def _called(store: Store, name: str) -> list[str]:
    """Return the trials that progress shows under this name."""
    launches = read_launches(store)
    known = {trial for launch in launches for trial in launch.in_flight}
    known |= {failure.trial_id for failure in read_failures(store)} | (planned_trials(store) or set())
    return sorted(trial for trial in known if short_name(trial) == name)


def _attempts(store: Store, trial: str) -> list[LoggedAttempt]:
    """Return the attempts at a trial by its id or hash; none if it is unknown."""
    texts = partial(_read, store)
    attempts = [failed_attempt(failure, texts) for failure in read_failures(store) if is_named(failure.trial_id, trial)]
    done = _done(store, trial, texts)
    if done is not None:
        return [*attempts, done]
    now = datetime.now(UTC)
    for launch in read_launches(store):
        for running in launch.in_flight if launch.alive(now) else ():
            if is_named(running, trial):
                attempts.append(_running(store, running, launch, texts))
    return attempts


def follow(store: Store, trial: str, write: Callable[[str], object]) -> None:
    """Write the attempts of a trial, then what a running one prints, until no attempt is running or nobody reads.

    Raises:
        InvalidRequest: As ``attempts_of``.
    """
    shown, told = 0, list[tuple[int, str]]()
    while True:
        attempts = attempts_of(store, trial)
        for each in attempts:
            if each.state == "running":
                if (each.attempt, each.state) not in told:
                    write(f"{one_line(each.header)}\n")
                    shown = 0
                new, shown = new_part(each.output, shown)
                write(new)
            elif (each.attempt, each.state) not in told:
                if (each.attempt, "running") in told:
                    new, _ = new_part(each.output, shown)
                    write(new)
                    each = each._replace(output="")
                write(each.text())
            told.append((each.attempt, each.state))
        if attempts[-1].state != "running" or nobody_listens():
            return
        trial = attempts[-1].trial
        time.sleep(_FOLLOW_SECONDS)


def _ended(text: str) -> str:
    return text if text.endswith("\n") else f"{text}\n"


def _read(store: Store, key: str) -> str:
    try:
        return store.read(key).decode(errors="replace")
    except FileNotFoundError:
        return ""


def failed_attempt(failure: Failure, texts: Texts) -> LoggedAttempt:
    """Return a failed attempt."""
    header = (
        f"== {failure.trial_id}, attempt {failure.attempt}, {failure.failed_at}, on {failure.host} "
        f"({failure.kind}): {failure.signature}"
    )
    log = texts(log_key(failure.trial_id, failure.attempt)) or "(its log is not in the root)"
    output = texts(output_key(failure.trial_id, failure.attempt))
    return LoggedAttempt(failure.trial_id, failure.attempt, "failed", header, log, output)


def done_attempt(trial: str, kind: str, rows: Sequence[Mapping[str, Any]], texts: Texts) -> LoggedAttempt:
    """Return the attempt that finished a trial.

    Args:
        rows: of its result.
    """
    last = rows[-1]
    told = {name: UNKNOWN if value is None else value for name, value in last.items()}  # as of imported trials
    took = UNKNOWN if last["seconds"] is None else f"{last['seconds']:.1f} s"
    header = (
        f"== {trial}, attempt {told['attempt']}, {told['finished_at']}, on {told['host']} (done): {took} on "
        f"{told['device_kind']}" + (f", launch {last['launch']}" if last["launch"] else "")
    )
    names = [numbering(kind), *sorted(varying(kind) - {numbering(kind)})]
    lines = [numbers_of({name: row.get(name) for name in names}) for row in rows]
    attempt = last["attempt"] or 0
    output = texts(output_key(trial, attempt)) if attempt else ""
    return LoggedAttempt(trial, attempt, "done", header, "\n".join(lines), output)


def running_attempt(
    trial: str, attempt: int, launch: Launch, position: tuple[int, int] | None, texts: Texts
) -> LoggedAttempt:
    """Return an attempt that is running.

    Args:
        position: epoch and batch of its newest checkpoint; None: it has none.
    """
    header = f"== {trial}, attempt {attempt}, running in {launch.told}, last heard of at {launch.heartbeat_at}"
    saved = "no checkpoint yet" if position is None else "checkpoint before batch {1} of epoch {0}".format(*position)
    output = texts(output_key(trial, attempt))
    about = "" if output else "; its output arrives every 10 s, and lies on its machine in Ray's session_latest/logs"
    return LoggedAttempt(trial, attempt, "running", header, f"({saved}{about})", output)


def _done(store: Store, trial: str, texts: Texts) -> LoggedAttempt | None:
    """Return the attempt that finished a trial; None if none did."""
    for kind, trial_id in _results(store, trial):
        key = trial_key(kind, trial_id)
        table = decode_trial(store.read_within(key, most_bytes(kind)), kind, trial_id, f"{store.uri}/{key}").table
        return done_attempt(trial_id, kind, table.to_pylist(), texts)
    return None


def _results(store: Store, trial: str) -> Iterator[tuple[str, str]]:
    """Yield kind and id of the finished trial with this id or hash, with one small listing for each kind."""
    for kind in kinds():
        folder = trial.rpartition("-")[2][:2]
        for key in store.keys(f"{trials_prefix(kind)}/{folder}") if len(folder) == 2 else ():
            found = trial_id_at(key, kind)
            if found is not None and is_named(found, trial):
                yield kind, found


def _running(store: Store, trial: str, launch: Launch, texts: Texts) -> LoggedAttempt:
    saved = [found for key in store.keys(checkpoints_prefix(trial)) if (found := checkpoint_position(key))]
    return running_attempt(trial, next_attempt(store, trial), launch, max(saved, default=None), texts)
