"""State of a launch in its driver while rounds run, including the decision to stop. No Ray."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from jobs.results import Store
from orchestrator.failures.failure_classification import record_crash
from orchestrator.failures.outcomes import ActorLeaves, Outcome, RootFailure, State, Stop, StopCause
from orchestrator.failures.retry_policy import RetryPolicy
from orchestrator.failures.versions import UnfitMachine
from orchestrator.launching.hanging import ActorHung, Silences
from orchestrator.launching.hosts import HostFailures
from orchestrator.launching.retries import all_fail_alike

LEAVING = "Running trials save and exit after their current batch."
_LOOK_SECONDS = 10.0
"""Interval between two looks at the machines of the cluster."""


class LaunchState:
    """State of a launch over all its rounds. Implements ``ray_tune.callbacks.RoundObserver``."""

    def __init__(self, store: Store, launch: str, policy: RetryPolicy) -> None:
        self.store = store
        self.launch = launch
        self.policy = policy
        self.on_change: Callable[[], None] = lambda: None
        self.on_stop: Callable[[], None] = lambda: None
        self.tell: Callable[[str], None] = lambda _: None
        """Tells the user something while trials run."""
        self.listen: Callable[[Sequence[str]], Mapping[str, float] | None] = lambda _: None
        """Returns the seconds of silence of actors, which are named by their first trials; None if not known yet."""
        self.root_answers: Callable[[], bool] = lambda: True
        """Returns whether the driver itself can write to the root."""
        self.look: Callable[[], None] = lambda: None
        """Looks at the machines that the cluster has now."""
        self.limits: list[Callable[[], str | None]] = []
        """Each returns a reason to stop now, or None."""
        self.stop: Stop | None = None
        self.at_work = False
        """Whether trials are running and can be asked to stop."""
        self.outcomes: dict[str, Outcome] = {}
        """The last outcome of each trial that has one."""
        self.round_outcomes: dict[str, Outcome] = {}
        self.done = 0
        """Number of trials finished by this launch, stored because every iteration of the loop displays it."""
        self.operations: Mapping[str, float] = {}
        """Floating-point operations of each trial."""
        self.operations_done = 0.0
        """Those of the trials finished by this launch."""
        self.running: dict[str, tuple[str, ...]] = {}
        """The trials of each run of an actor, by run id."""
        self._silences = Silences(policy)
        self._hosts = HostFailures(policy)
        self._ends: dict[str, tuple[str, Callable[[], None]]] = {}
        """The run of each actor and the function that kills it, by the actor's name."""
        self._hung: set[str] = set()
        """Runs whose actors were killed because they hung."""
        self._stop_requested_at = 0.0
        self._leaving: set[str] | None = None
        self._next_call = 0.0
        self._next_look = 0.0

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Pickle as None: Tune pickles its stopper and callbacks into a state that is never read back."""
        return type(None), ()

    @property
    def stopping(self) -> bool:
        return self.stop is not None

    @property
    def stop_reason(self) -> str | None:
        return self.stop.reason if self.stop else None

    @property
    def in_flight(self) -> tuple[str, ...]:
        """Ids of the trials that actors are running."""
        return tuple(trial for trials in list(self.running.values()) for trial in trials)

    def request_stop(self, cause: StopCause, reason: str) -> None:
        """Ask running trials to stop. Only sets an attribute, so that signal handlers may call it."""
        self.stop = self.stop or Stop(cause, reason)

    def root_failed(self, failure: RootFailure) -> None:
        """Stop if the root fails for every trial. If only one machine is disconnected, trials run elsewhere instead."""
        if not self.stopping and (failure.lasting or not self.root_answers()):
            self.request_stop(StopCause.STORAGE, failure.message)

    def begin_round(self) -> None:
        self.round_outcomes = {}
        self.running = {}  # a round that ended early has left some
        self._ends = {}
        self._silences.ended(self._silences.actors)

    def tick(self) -> None:
        """Check limits, machines, hung actors and stop requests. Called repeatedly by the driver's loop."""
        for limit in () if self.stopping else self.limits:
            if reason := limit():
                self.request_stop(StopCause.LIMIT, reason)
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LOOK_SECONDS
            self.look()
        if (silent_seconds := self.listen(self._silences.actors)) is not None:
            for actor in self._silences.hanging(silent_seconds):
                self._end(actor)
        if self.stop is not None and self._leaving is None:
            self._leaving = set(self.running)
            self._stop_requested_at = time.monotonic()
            if self._leaving and self.stop.cause is not StopCause.INTERRUPTED:  # the signal's handler has told
                self.tell(f"Stopping: {self.stop.reason.rstrip('.')}. {LEAVING}")
        if self.stopping and time.monotonic() >= self._next_call:
            self._next_call = time.monotonic() + 1.0
            self.on_stop()  # repeated, because a restarted flag has lost its state
        self.on_change()

    @property
    def all_left(self) -> bool:
        """Whether all trials that ran at the time of the stop request have exited, or their grace period is over."""
        if self._leaving is None:
            return False
        waited = time.monotonic() - self._stop_requested_at
        return not self._leaving or waited > self.policy.stop_grace_seconds

    def started(self, run: str, trials: tuple[str, ...], end: Callable[[], None]) -> None:
        """Record that an actor starts its trials. ``end`` kills the actor, so that its run fails."""
        self._hosts.started(run)
        self.running[run] = trials
        self._ends[trials[0]] = run, end
        self._silences.started(trials[0])

    def ended(self, run: str, outcomes: Mapping[str, Outcome]) -> None:
        """Record the outcomes that an actor returned for its trials."""
        trials = self.running.pop(run, ())
        self._silences.ended(trials[:1])
        for actor in trials[:1]:
            self._ends.pop(actor, None)
        if self._leaving:
            self._leaving.discard(run)
        self._record(outcomes)
        for outcome in outcomes.values():
            if (failure := outcome.root_failure) is not None:
                where = f"on {outcome.host}: " if outcome.host else ""
                self.root_failed(failure._replace(message=f"{where}{failure.message}"))
        if (host := self._hosts.ended(run, outcomes)) is not None and not self.stopping:
            last = next(outcome.signature for outcome in outcomes.values() if outcome.signature)
            self.request_stop(
                StopCause.MACHINE,
                f"on {host}, {self.policy.host_failures} trials failed one after another and none was done; the last "
                f"with {last}. Fix: repair that machine or remove it from the cluster, then resume",
            )
        if not self.stopping and (signature := all_fail_alike(self.outcomes.values(), self.policy)):
            self.request_stop(
                StopCause.FAILING, f"the first {len(self.outcomes)} trials all failed with the same error: {signature}"
            )

    def committed(self, trials: Iterable[str]) -> None:
        """Record that actors had committed trials before they died without an answer."""
        self._record(dict.fromkeys(trials, Outcome(State.DONE)))

    def _record(self, outcomes: Mapping[str, Outcome]) -> None:
        self.outcomes |= outcomes
        self.round_outcomes |= outcomes
        finished = [trial for trial, outcome in outcomes.items() if outcome.state is State.DONE]
        self.done += len(finished)
        self.operations_done += sum(self.operations.get(trial, 0.0) for trial in finished)

    def failed(self, run: str, trials: tuple[str, ...], error: BaseException, log: str = "") -> None:
        """Record that an actor's run ended with an exception instead of outcomes.

        Args:
            log: the traceback of an exception that the actor raised; empty for an error of Ray or Tune.
        """
        if run in self._hung:
            log = ""
            error = ActorHung(
                f"no sign of progress for {self.policy.hang_after_minutes:g} minutes (--hang-after); its actor was "
                "killed"
            )
        if isinstance(error, ActorLeaves):
            self.ended(run, {trial: Outcome.parse(plain) for trial, plain in error.outcomes.items()})
        elif isinstance(error, UnfitMachine):
            self.root_failed(RootFailure(str(error), lasting=False))  # the root is at fault if the driver fails, too
            self.request_stop(StopCause.MACHINE, str(error))
            self.ended(run, dict.fromkeys(trials, Outcome(State.STOPPED)))
        else:
            self.ended(run, {trial: record_crash(self.store, trial, self.launch, error, log) for trial in trials})

    def _end(self, actor: str) -> None:
        """Kill a hung actor."""
        self._silences.ended([actor])
        run, end = self._ends.pop(actor)
        self._hung.add(run)
        end()
