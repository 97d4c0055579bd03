"""Callbacks that translate Tune's events and report them to the observer of a round."""

import json
import pickle
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import ray
from ray import tune
from ray.exceptions import RayTaskError

from jobs.kind import from_plain
from orchestrator.failures.outcomes import ActorLeaves, Outcome
from orchestrator.failures.versions import UnfitMachine


class RoundObserver(Protocol):
    """Receives the events of a round, in the thread that runs it. A run is an actor's work on its trials."""

    launch: str

    def tick(self) -> None:
        """Called repeatedly during the round."""

    def started(self, run: str, trials: tuple[str, ...], end: Callable[[], None]) -> None:
        """An actor starts its trials. ``end`` kills the actor, so that its run fails."""

    def ended(self, run: str, outcomes: Mapping[str, Outcome]) -> None:
        """An actor has returned the outcomes of its trials."""

    def failed(self, run: str, trials: tuple[str, ...], error: BaseException) -> None:
        """An actor's run ended with an exception instead of outcomes, possibly before it started."""

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

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._observer.tick()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._observer.started(trial.trial_id, _trials_of(trial), partial(_kill, trial))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        outcomes = json.loads((trial.last_result or {}).get("outcomes", "{}"))
        self._observer.ended(trial.trial_id, {name: Outcome.parse(plain) for name, plain in outcomes.items()})

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._observer.failed(trial.trial_id, _trials_of(trial), _last_error(trial))


def _trials_of(tune_trial: Any) -> tuple[str, ...]:
    return tuple(from_plain(spec).trial_id for spec in json.loads(tune_trial.config["trials"]))


def _kill(tune_trial: Any) -> None:
    """Kill an actor, even if it is suspended. Tune then reports its trial as failed."""
    if (actor := tune_trial.temporary_state.ray_actor) is not None:
        ray.kill(actor)


def _last_error(tune_trial: Any) -> BaseException:
    """Return the exception of the actor from the files that Tune has just written about a failed trial.

    ``Trial.get_pickled_error`` reads Tune's storage, where the file arrives later. Tune only pickles Ray's exceptions.
    """
    if tune_trial.pickled_error_file and Path(tune_trial.pickled_error_file).is_file():
        # safe to unpickle: this process has just written the file
        error: BaseException = pickle.loads(Path(tune_trial.pickled_error_file).read_bytes())
        if not isinstance(error, RayTaskError):
            return error
        if isinstance(error.cause, ActorLeaves | UnfitMachine):
            return error.cause
        other: BaseException = error.as_instanceof_cause()  # type: ignore[no-untyped-call]  # includes the traceback
        return other
    text = Path(tune_trial.error_file).read_text(encoding="utf-8").strip() if tune_trial.error_file else ""
    return RuntimeError(text or "its actor ended without returning an outcome")


class NoReport(tune.ProgressReporter):
    """Reports nothing. In a notebook, Tune's own reporter clears the output of the cell, even when it is silent."""

    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        return False
