"""One attempt at a trial, from its last checkpoint to its commit: the way of a trial inside an actor."""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

import torch

from jobs.checkpoints import remove_checkpoints, restore_checkpoint, save_checkpoint
from jobs.finetune import Finetuning, open_finetuning
from jobs.pretrain import Pretraining, open_pretraining
from jobs.records import Attempt, commit_trial
from jobs.results import Committed, Store, require_pin
from jobs.specs import AnySpec, PretrainSpec
from jobs.training import Evaluated
from jobs.weights import source_weights


class Ending(StrEnum):
    """How an attempt ended that did not raise."""

    COMMITTED = "committed"
    STOPPED = "stopped"
    """Asked to leave; a checkpoint says how far it came."""


class Keeping(NamedTuple):
    """What an attempt leaves behind besides its result. Placement: it changes no number."""

    checkpoint_every: int
    """Epochs between two checkpoints."""
    checkpoint_batches: int | None = None
    """Batches between two checkpoints, where epochs are long."""
    weights: bool = False
    """Whether the trained network's weights stay in the root. Those of a source always do."""


class Ended(NamedTuple):
    """An attempt's end, and what a person should know of it."""

    ending: Ending
    notes: list[str]


AnyTraining = Finetuning | Pretraining


def open_trial(store: Store, spec: AnySpec, device: torch.device) -> AnyTraining:
    """Load what a trial needs and set it to its start.

    Raises:
        InvalidRequest: when the trial cannot exist.
        MissingData, DamagedFile: when its weights or images are not here, or not what they should be.
    """
    if isinstance(spec, PretrainSpec):
        return open_pretraining(spec, device)
    return open_finetuning(spec, source_weights(store, spec.source), device)


def attempt_trial(
    store: Store,
    trial: AnyTraining,
    attempt: Attempt,
    keeping: Keeping,
    stop: Callable[[], bool] = lambda: False,
    on_evaluation: Callable[[Evaluated], None] = lambda _: None,
) -> Ended:
    """Run a trial from its newest checkpoint until it is committed, or until ``stop()`` says to leave.

    Args:
        trial: at its start (``open_trial``).
        stop: asked between any two batches; true makes the trial save and leave.
        on_evaluation: called once for each evaluation made in this attempt.

    Raises:
        ResultsConflict: when the root knows what the trial reads under another digest.
    """
    for pin in trial.pins:
        require_pin(store, *pin)
    notes = restore_checkpoint(store, trial)
    saved, shown = trial.position, len(trial.evaluations)
    while not trial.done:
        stopped = _to_next_pause(trial, keeping, stop)
        for evaluation in trial.evaluations[shown:]:
            on_evaluation(evaluation)
        shown = len(trial.evaluations)
        if not trial.done and trial.position != saved:
            save_checkpoint(store, trial)
            saved = trial.position
        if stopped:
            return Ended(Ending.STOPPED, notes)
    if commit_trial(store, trial, attempt, keeping.weights) is Committed.CONFLICT:
        notes.append(
            f"{trial.spec.trial_id} was committed with other numbers before; the first stand, these are in conflicts/"
        )
    remove_checkpoints(store, trial.spec.trial_id)
    return Ended(Ending.COMMITTED, notes)


def _to_next_pause(trial: AnyTraining, keeping: Keeping, stop: Callable[[], bool]) -> bool:
    """Go on to where a checkpoint is due, or to the end; True when told to stop on the way."""
    due = trial.epoch + keeping.checkpoint_every - (trial.epoch - 1) % keeping.checkpoint_every
    batches = 0
    stopped = False

    def pause() -> bool:
        nonlocal stopped, batches
        stopped = stop()
        batches += 1
        return stopped or trial.epoch >= due or (keeping.checkpoint_batches or batches) < batches

    trial.advance(pause)
    return stopped and not trial.done
