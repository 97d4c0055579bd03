"""What the driver knows while Tune runs a round, and whether it should stop: Tune's events in our words."""

import json
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayTaskError

from jobs.results import Store
from jobs.specs import from_plain
from orchestrator.failures import record_crash
from orchestrator.hanging import HANG_AFTER_MINUTES, ActorHung, Silences
from orchestrator.outcomes import Outcome, RootFailure, State, Stop, StopCause
from orchestrator.retries import all_fail_alike
from orchestrator.stopping import NodeDraining
from orchestrator.versions import UnfitMachine

STOP_GRACE_SECONDS = 60.0
"""How long running trials may take to leave after a stop was asked for: more than one batch ever takes."""


class Watch:
    """The state of a launch as its driver sees it; lives through all rounds."""

    def __init__(self, store: Store, launch: str, hang_after_minutes: float = HANG_AFTER_MINUTES) -> None:
        """
        Args:
            hang_after_minutes: an actor that shows no progress for longer is ended.

        Raises:
            InvalidRequest: when this is not above 0.
        """
        self.store = store
        self.launch = launch
        self.on_change: Callable[[], None] = lambda: None
        self.on_stop: Callable[[], None] = lambda: None
        self.listen: Callable[[Sequence[str]], Mapping[str, float] | None] = lambda _: None
        """Asked how many seconds actors, named by their first trials, have been silent; None: no answer yet."""
        self.root_answers: Callable[[], bool] = lambda: True
        """Asked whether the driver itself can write to the root."""
        self.limits: list[Callable[[], str | None]] = []
        """Each asked for the reason to stop now."""
        self.stop: Stop | None = None
        self.at_work = False
        """Whether trials run, that can be asked to leave."""
        self.outcomes: dict[str, Outcome] = {}
        """The last outcome of each trial that had one."""
        self.round_outcomes: dict[str, Outcome] = {}
        self.done = 0
        """Trials that this launch finished; counted here, because it is shown at every turn of Tune's loop."""
        self.running: dict[str, tuple[str, ...]] = {}
        """Tune's trial id to the trials its actor works on."""
        self._silences = Silences(hang_after_minutes)
        self._minutes = hang_after_minutes
        self._actors: dict[str, Any] = {}
        """Tune's trials that run, by their actors' names."""
        self._hung: set[str] = set()
        """Tune's ids of the trials whose actors were ended because they hung."""
        self._stop_requested_at = 0.0
        self._leaving: set[str] | None = None
        self._next_call = 0.0

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Tune pickles its stopper and callbacks into a state that nobody reads; a watch belongs to its driver."""
        return type(None), ()

    @property
    def stopping(self) -> bool:
        return self.stop is not None

    @property
    def stop_reason(self) -> str | None:
        return self.stop.reason if self.stop else None

    @property
    def in_flight(self) -> tuple[str, ...]:
        """Ids of the trials that an actor works on."""
        return tuple(trial for trials in list(self.running.values()) for trial in trials)

    def request_stop(self, cause: StopCause, reason: str) -> None:
        """Ask running trials to leave; only sets a mark, so that a signal handler may call it."""
        self.stop = self.stop or Stop(cause, reason)

    def root_failed(self, failure: RootFailure) -> None:
        """Stop, where the root fails for every trial: one that only a machine is cut off from runs them elsewhere."""
        if not self.stopping and (failure.lasting or not self.root_answers()):
            self.request_stop(StopCause.STORAGE, failure.message)

    def begin_round(self) -> None:
        self.round_outcomes = {}

    def tick(self) -> None:
        """Called by the driver's loop again and again."""
        for limit in () if self.stopping else self.limits:
            if reason := limit():
                self.request_stop(StopCause.LIMIT, reason)
        if (heard := self.listen(self._silences.actors)) is not None:
            for actor in self._silences.hanging(heard):
                self._end(actor)
        if self.stopping and self._leaving is None:
            self._leaving = set(self.running)
            self._stop_requested_at = time.monotonic()
        if self.stopping and time.monotonic() >= self._next_call:
            self._next_call = time.monotonic() + 1.0
            self.on_stop()  # again and again: a flag that was restarted has forgotten
        self.on_change()

    @property
    def all_left(self) -> bool:
        """Whether every trial that ran when the stop was asked for has left, or had its time to."""
        if self._leaving is None:
            return False
        return not self._leaving or time.monotonic() - self._stop_requested_at > STOP_GRACE_SECONDS

    def started(self, tune_trial: Any) -> None:
        trials = _trials_of(tune_trial)
        self.running[tune_trial.trial_id] = trials
        self._actors[trials[0]] = tune_trial
        self._silences.started(trials[0])

    def why(self, tune_trial: Any) -> BaseException:
        """What ended a trial of Tune's that did not end well."""
        if tune_trial.trial_id in self._hung:
            return ActorHung(f"no sign of progress for {self._minutes:g} minutes (--hang-after); its actor was ended")
        return _last_error(tune_trial)

    def _end(self, actor: str) -> None:
        """Kill an actor, also one that is stopped; Tune then tells that its trial failed."""
        self._silences.ended([actor])
        tune_trial = self._actors.pop(actor)
        self._hung.add(tune_trial.trial_id)
        if (handle := tune_trial.temporary_state.ray_actor) is not None:
            ray.kill(handle)

    def ended(self, tune_trial: Any, outcomes: dict[str, Outcome]) -> None:
        trials = self.running.pop(tune_trial.trial_id, ())
        self._silences.ended(trials[:1])
        for actor in trials[:1]:
            self._actors.pop(actor, None)
        if self._leaving:
            self._leaving.discard(tune_trial.trial_id)
        self.outcomes |= outcomes
        self.round_outcomes |= outcomes
        self.done += sum(outcome.state is State.DONE for outcome in outcomes.values())
        for outcome in outcomes.values():
            if outcome.root_failure is not None:
                self.root_failed(outcome.root_failure)
        if not self.stopping and (signature := all_fail_alike(self.outcomes.values())):
            self.request_stop(
                StopCause.FAILING, f"the first {len(self.outcomes)} trials all failed in the same way: {signature}"
            )


class StopWhenAsked(tune.Stopper):
    """Ends a round once a stop was asked for and the running trials have left."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._watch.all_left


class Observer(tune.Callback):
    """Hands Tune's events to the watch."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._watch.tick()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._watch.started(trial)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._watch.ended(trial, _parsed(json.loads((trial.last_result or {}).get("outcomes", "{}"))))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        watch = self._watch
        error = watch.why(trial)
        if isinstance(error, NodeDraining):
            watch.ended(trial, _parsed(error.outcomes))
            return
        if isinstance(error, UnfitMachine):
            watch.root_failed(RootFailure(str(error), lasting=False))  # not this machine's own, when the driver's fails
            watch.request_stop(StopCause.MACHINE, str(error))
            watch.ended(trial, dict.fromkeys(_trials_of(trial), Outcome(State.STOPPED)))
            return
        watch.ended(
            trial,
            {trial_id: record_crash(watch.store, trial_id, watch.launch, error) for trial_id in _trials_of(trial)},
        )


def _parsed(outcomes: Mapping[str, Mapping[str, object]]) -> dict[str, Outcome]:
    return {trial_id: Outcome.parse(plain) for trial_id, plain in outcomes.items()}


def _trials_of(tune_trial: Any) -> tuple[str, ...]:
    return tuple(from_plain(spec).trial_id for spec in json.loads(tune_trial.config["trials"]))


def _last_error(tune_trial: Any) -> BaseException:
    """What Tune has just written of a trial's end, as what was raised in the actor.

    ``Trial.get_pickled_error`` looks in Tune's storage, where it arrives later. Tune pickles only what Ray raised.
    """
    if tune_trial.pickled_error_file and Path(tune_trial.pickled_error_file).is_file():
        # our own process wrote it just now
        error: BaseException = pickle.loads(Path(tune_trial.pickled_error_file).read_bytes())
        if not isinstance(error, RayTaskError):
            return error
        if isinstance(error.cause, NodeDraining | UnfitMachine):
            return error.cause
        other: BaseException = error.as_instanceof_cause()  # type: ignore[no-untyped-call]  # says its traceback too
        return other
    text = Path(tune_trial.error_file).read_text(encoding="utf-8").strip() if tune_trial.error_file else ""
    return RuntimeError(text or "its actor ended without an answer")
