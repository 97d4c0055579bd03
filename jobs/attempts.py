"""One attempt at a trial, from its last checkpoint to its commit: the way of a trial inside an actor."""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

import torch

from jobs.checkpoints import remove_checkpoints, restore_checkpoint, save_checkpoint
from jobs.finetune import Evaluation, Finetuning, open_finetuning
from jobs.records import Attempt, commit_finetuning, keep_weights, require_pins
from jobs.results import Committed, Store
from jobs.specs import FinetuneSpec


class Ending(StrEnum):
    """How an attempt ended that did not raise."""

    COMMITTED = "committed"
    STOPPED = "stopped"
    """Asked to leave; a checkpoint says how far it came."""


class Keeping(NamedTuple):
    """What an attempt leaves behind besides its result. Placement: it changes no number."""

    checkpoint_every: int
    """Epochs between two checkpoints."""
    weights: bool = False
    """Whether the trained network's weights stay in the root."""


class Ended(NamedTuple):
    """An attempt's end, and what a person should know of it."""

    ending: Ending
    notes: list[str]


def attempt_trial(
    store: Store,
    spec: FinetuneSpec,
    attempt: Attempt,
    device: torch.device,
    keeping: Keeping,
    stop: Callable[[], bool] = lambda: False,
    on_evaluation: Callable[[Evaluation], None] = lambda _: None,
) -> Ended:
    """Run a trial from its newest checkpoint until it is committed, or until ``stop()`` says to leave.

    Args:
        stop: asked between any two batches; true makes the trial save and leave.
        on_evaluation: called once for each evaluation made in this attempt.
    """
    trial = open_finetuning(spec, device)
    require_pins(store, trial)
    notes = restore_checkpoint(store, trial)
    saved, shown = trial.position, len(trial.evaluations)
    while not trial.done:
        stopped = _to_next_pause(trial, keeping.checkpoint_every, stop)
        for evaluation in trial.evaluations[shown:]:
            on_evaluation(evaluation)
        shown = len(trial.evaluations)
        if not trial.done and trial.position != saved:
            save_checkpoint(store, trial)
            saved = trial.position
        if stopped:
            return Ended(Ending.STOPPED, notes)
    if keeping.weights:
        keep_weights(store, trial)
    if commit_finetuning(store, trial, attempt) is Committed.CONFLICT:
        notes.append(
            f"{spec.trial_id} was committed with other numbers before; the first stand, these are in conflicts/"
        )
    remove_checkpoints(store, spec.trial_id)
    return Ended(Ending.COMMITTED, notes)


def _to_next_pause(trial: Finetuning, checkpoint_every: int, stop: Callable[[], bool]) -> bool:
    """Go on to the next epoch that a checkpoint is due before, or to the end; True when told to stop on the way."""
    due = trial.epoch + checkpoint_every - (trial.epoch - 1) % checkpoint_every
    stopped = False

    def pause() -> bool:
        nonlocal stopped
        stopped = stop()
        return stopped or trial.epoch >= due

    trial.advance(pause)
    return stopped and not trial.done
