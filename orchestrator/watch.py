"""What the driver knows while Tune runs a round, and whether it should stop: Tune's events in our words."""

import json
import pickle
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.exceptions import RayTaskError

from jobs.results import Store
from jobs.specs import from_plain
from orchestrator.budget import Budget
from orchestrator.failures import record_crash
from orchestrator.outcomes import Outcome, State
from orchestrator.retries import all_fail_alike
from orchestrator.stopping import NodeDraining
from orchestrator.versions import UnfitMachine

STOP_GRACE_SECONDS = 60.0
"""How long running trials may take to leave after a stop was asked for: more than one batch ever takes."""


class Watch:
    """The state of a launch as its driver sees it; lives through all rounds."""

    def __init__(self, store: Store, launch: str, on_change: Callable[[], None] = lambda: None) -> None:
        self.store = store
        self.launch = launch
        self.on_change = on_change
        self.on_stop: Callable[[], None] = lambda: None
        self.outcomes: dict[str, Outcome] = {}
        """The last outcome of each trial that had one."""
        self.round_outcomes: dict[str, Outcome] = {}
        self.done = 0
        """Trials that this launch finished; counted here, because it is shown at every turn of Tune's loop."""
        self.budget: Budget | None = None
        self.running: dict[str, tuple[str, ...]] = {}
        """Tune's trial id to the trials its actor works on."""
        self.stop_reason: str | None = None
        self._stop_requested_at = 0.0
        self._leaving: set[str] | None = None
        self._next_call = 0.0

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Tune pickles its stopper and callbacks into a state that nobody reads; a watch belongs to its driver."""
        return type(None), ()

    @property
    def stopping(self) -> bool:
        return self.stop_reason is not None

    @property
    def in_flight(self) -> tuple[str, ...]:
        """Ids of the trials that an actor works on."""
        return tuple(trial for trials in list(self.running.values()) for trial in trials)

    def request_stop(self, reason: str) -> None:
        """Ask running trials to leave; only sets a mark, so that a signal handler may call it."""
        self.stop_reason = self.stop_reason or reason

    def begin_round(self) -> None:
        self.round_outcomes = {}

    def tick(self) -> None:
        """Called by the driver's loop again and again."""
        if not self.stopping and self.budget is not None and (reason := self.budget.spend()):
            self.request_stop(reason)
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
        self.running[tune_trial.trial_id] = _trials_of(tune_trial)

    def ended(self, tune_trial: Any, outcomes: dict[str, Outcome]) -> None:
        self.running.pop(tune_trial.trial_id, None)
        if self._leaving:
            self._leaving.discard(tune_trial.trial_id)
        self.outcomes |= outcomes
        self.round_outcomes |= outcomes
        self.done += sum(outcome.state is State.DONE for outcome in outcomes.values())
        if not self.stopping and (signature := all_fail_alike(self.outcomes.values())):
            self.request_stop(f"the first {len(self.outcomes)} trials all failed in the same way: {signature}")


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
        error = _last_error(trial)
        watch = self._watch
        if isinstance(error, NodeDraining):
            watch.ended(trial, _parsed(error.outcomes))
            return
        if isinstance(error, UnfitMachine):
            watch.request_stop(str(error))
            watch.ended(trial, dict.fromkeys(_trials_of(trial), Outcome(State.STOPPED)))
            return
        watch.ended(
            trial,
            {
                trial_id: Outcome.failed(record_crash(watch.store, trial_id, watch.launch, error))
                for trial_id in _trials_of(trial)
            },
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
