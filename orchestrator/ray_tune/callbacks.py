"""Callbacks that translate Tune's events and report them to the observer of a round."""

import json
import pickle
import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import ray
from ray import tune
from ray.exceptions import RayError, RayTaskError

from jobs.kind import from_plain
from orchestrator.failures.outcomes import Outcome

_LOOK_SECONDS = 10.0
"""Interval between two looks for actors that prepare for their next trials."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class RoundObserver(Protocol):
    """Receives the events of a round, in the thread that runs it. A run is an actor's work on its trials."""

    launch: str

    def tick(self) -> None:
        """Called repeatedly during the round."""

    def started(self, run: str, trials: tuple[str, ...], end: Callable[[], None]) -> None:
        """An actor starts its trials. ``end`` kills the actor, so that its run fails."""

    def ended(self, run: str, outcomes: Mapping[str, Outcome]) -> None:
        """An actor has returned the outcomes of its trials."""

    def failed(self, run: str, trials: tuple[str, ...], error: BaseException, log: str = "") -> None:
        """An actor's run ended with an exception instead of outcomes, possibly before it started. ``log`` is the
        traceback of an exception that the actor raised; empty for an error of Ray or Tune.
        """

    @property
    def all_left(self) -> bool:
        """Whether the round should end now, even if trials are running."""


class StopWhenAllLeft(tune.Stopper):
    """Ends a round when a stop was requested and the running trials have exited."""

    def __init__(self, observer: RoundObserver) -> None:
        self._observer = observer

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._observer.all_left


class Reporter(tune.Callback):
    """Forwards Tune's events to the observer of a round."""

    def __init__(self, observer: RoundObserver) -> None:
        self._observer = observer
        self._preparing = set[str]()
        """Runs whose reused actor has been told to prepare for them, but has not answered yet."""
        self._next_look = 0.0

    def on_step_begin(self, iteration: int, trials: Sequence[Any], **info: Any) -> None:
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LOOK_SECONDS
            self._find_preparing(trials)
        self._observer.tick()

    def on_trial_start(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        self._preparing.discard(trial.trial_id)
        self._start(trial)

    def _find_preparing(self, trials: Sequence[Any]) -> None:
        """Report runs that wait for a reused actor as started, since Tune reports them when it has answered, and it may
        hang.
        """
        for trial in trials:
            has_actor = trial.status == "PENDING" and trial.temporary_state.ray_actor is not None
            if has_actor and trial.trial_id not in self._preparing:
                self._preparing.add(trial.trial_id)
                self._start(trial)

    def _start(self, trial: Any) -> None:
        self._observer.started(trial.trial_id, _trials_of(trial), partial(_kill, trial))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        outcomes = json.loads((trial.last_result or {}).get("outcomes", "{}"))
        self._observer.ended(trial.trial_id, {name: Outcome.parse(plain) for name, plain in outcomes.items()})

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._observer.failed(trial.trial_id, _trials_of(trial), *_last_error(trial))


def _trials_of(tune_trial: Any) -> tuple[str, ...]:
    return tuple(from_plain(spec).trial_id for spec in json.loads(tune_trial.config["trials"]))


def _kill(tune_trial: Any) -> None:
    """Kill an actor, even if it is suspended. Tune then reports its trial as failed."""
    if (actor := tune_trial.temporary_state.ray_actor) is not None:
        ray.kill(actor)


def _last_error(tune_trial: Any) -> tuple[BaseException, str]:
    """Return the exception with which a run ended, from the files that Tune has just written about it.

    ``Trial.get_pickled_error`` reads Tune's storage, where the file arrives later. Tune only pickles Ray's exceptions.

    Returns:
        The exception, and its traceback if the actor raised it; empty if it is Ray's or Tune's own.
    """
    if tune_trial.pickled_error_file and Path(tune_trial.pickled_error_file).is_file():
        # safe to unpickle: this process has just written the file
        error: BaseException = pickle.loads(Path(tune_trial.pickled_error_file).read_bytes())
        if not isinstance(error, RayTaskError):
            return error, ""
        cause: BaseException = error.cause
        return cause, "" if isinstance(cause, RayError) else _COLOUR.sub("", f"{error}\n")
    text = Path(tune_trial.error_file).read_text(encoding="utf-8").strip() if tune_trial.error_file else ""
    return RuntimeError(text or "its actor ended without returning an outcome"), ""


class NoReport(tune.ProgressReporter):
    """Reports nothing. In a notebook, Tune's own reporter clears the output of the cell, even when it is silent."""

    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        return False


class KeepsHandlers(tune.Callback):
    """Takes back the signals that Tune catches before its first step: it would end the round and kill its actors."""

    def __init__(self, handlers: Mapping[signal.Signals, Any]) -> None:
        self._handlers = handlers

    def __reduce__(self) -> tuple[type["KeepsHandlers"], tuple[dict[signal.Signals, Any]]]:
        """Pickle without handlers: Tune's state is never read back."""
        return KeepsHandlers, ({},)

    def setup(self, *args: Any, **info: Any) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
