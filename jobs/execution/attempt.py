"""One attempt at a trial inside an actor, from its newest checkpoint to its commit."""

from collections.abc import Callable, Set
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import torch

from jobs.catalog.catalog import Catalog
from jobs.execution.checkpoints import remove_checkpoints, restore_checkpoint, save_checkpoint
from jobs.execution.commit import Attempt, commit_trial
from jobs.execution.retention import RetentionPolicy
from jobs.execution.trial import Trial
from jobs.kind import kind_of, load
from jobs.possible import require_possible
from jobs.results import Committed, Store, require_pin
from jobs.specs.trial import TrialSpec


class AttemptStatus(StrEnum):
    """How an attempt that raised no error ended."""

    COMMITTED = "committed"
    STOPPED = "stopped"
    """Stopped on request; a checkpoint stores its progress."""


class AttemptResult(NamedTuple):
    """How an attempt ended, with notes for the user."""

    status: AttemptStatus
    notes: list[str]


AnyTrial = Trial[Any, Any]


class Paused(Protocol):
    """Something that can be paused between any two batches: a trial, or a bundle of trials."""

    @property
    def epoch(self) -> int: ...
    @property
    def position(self) -> tuple[int, int]: ...
    @property
    def done(self) -> bool: ...
    def advance(self, pause: Callable[[], bool]) -> None: ...


def open_trial(store: Store, spec: TrialSpec, catalog: Catalog, device: torch.device) -> AnyTrial:
    """Load what a trial needs and set it to its start.

    Raises:
        InvalidRequest: if the trial is impossible.
        MissingData, DamagedFile: if its weights or images are missing or damaged.
    """
    require_possible(spec, catalog)
    trial: type[AnyTrial] = load(kind_of(spec).trial)
    return trial.open(store, spec, catalog, device)


def attempt_trial(
    store: Store,
    trial: AnyTrial,
    attempt: Attempt,
    retention: RetentionPolicy,
    stop: Callable[[], bool] = lambda: False,
    on_evaluation: Callable[[Any], None] = lambda _: None,
) -> AttemptResult:
    """Run a trial from its newest checkpoint until it is committed, or until ``stop()`` returns true.

    Args:
        trial: at its start (``open_trial``).
        stop: called between batches; if it returns true, the trial is checkpointed and the attempt ends.
        on_evaluation: called once for each row that the trial completes in this attempt.

    Raises:
        ResultsConflict: if the results root has another digest for something that the trial reads.
    """
    notes = begin_attempt(store, trial, retention)
    saved, shown = trial.position, len(trial.evaluations)
    while not trial.done:
        stopped = to_next_pause(trial, retention, stop)
        for evaluation in trial.evaluations[shown:]:
            on_evaluation(evaluation)
        shown = len(trial.evaluations)
        if not trial.done and trial.position != saved:
            save_checkpoint(store, trial)
            saved = trial.position
        if stopped:
            return AttemptResult(AttemptStatus.STOPPED, notes)
    return commit_attempt(store, trial, attempt, retention, notes)


def begin_attempt(store: Store, trial: AnyTrial, retention: RetentionPolicy) -> list[str]:
    """Restore a trial from its newest usable checkpoint; return notes on those that were skipped."""
    for pin in trial.pins:
        require_pin(store, *pin)
    _ = trial.device_kind  # determined now, not while the trial is being saved
    return restore_checkpoint(store, trial, same_bits=retention.on_other_device == "restart")


def commit_attempt(
    store: Store, trial: AnyTrial, attempt: Attempt, retention: RetentionPolicy, notes: list[str]
) -> AttemptResult:
    if commit_trial(store, trial, attempt, retention.weights) is Committed.CONFLICT:
        notes.append(
            f"{trial.spec.trial_id} was already committed with other numbers, which are kept; these are in conflicts/"
        )
    remove_checkpoints(store, trial.spec.trial_id)
    return AttemptResult(AttemptStatus.COMMITTED, notes)


def to_next_pause(
    trial: Paused,
    retention: RetentionPolicy,
    stop: Callable[[], bool],
    others: Set[tuple[int, int]] = frozenset(),
) -> bool:
    """Advance until a checkpoint is due, the trial is done or meets others, or ``stop()`` returns true.

    Args:
        others: positions at which other trials wait for this one.

    Returns:
        Whether the trial was stopped before its end.
    """
    due = trial.epoch + retention.checkpoint_every - (trial.epoch - 1) % retention.checkpoint_every
    batches = 0
    stopped = False

    def pause() -> bool:
        nonlocal stopped, batches
        stopped = stop()
        batches += 1
        if batches > 1 and trial.position in others:
            return True
        return stopped or trial.epoch >= due or (retention.checkpoint_batches or batches) < batches

    trial.advance(pause)
    return stopped and not trial.done
