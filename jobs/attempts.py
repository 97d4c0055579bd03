"""One attempt at a trial, from its last checkpoint to its commit: the way of a trial inside an actor."""

from collections.abc import Callable, Mapping, Sequence, Set
from enum import StrEnum
from typing import Any, NamedTuple

import torch

from jobs.adversarial import open_adversarial
from jobs.bundle import Bundle
from jobs.checkpoints import remove_checkpoints, restore_checkpoint, save_checkpoint
from jobs.finetune import Finetuning, open_finetuning
from jobs.influence_trial import open_influence
from jobs.pretrain import open_pretraining
from jobs.records import Attempt, commit_trial
from jobs.results import Committed, Store, require_pin
from jobs.shape_bias import open_shape_bias
from jobs.specs import AnySpec, AttackSpec, FinetuneSpec, InfluenceSpec, PretrainSpec, ShapeBiasSpec, VisualizeSpec
from jobs.study import OnOtherDevice
from jobs.trial import Trial
from jobs.visualization import open_visualization
from jobs.weights import source_weights


class Ending(StrEnum):
    """How an attempt ended that did not raise."""

    COMMITTED = "committed"
    STOPPED = "stopped"
    """Asked to leave; a checkpoint says how far it came."""


class Keeping(NamedTuple):
    """What an attempt leaves behind besides its result, and what it takes up. Placement: it is no part of any id."""

    checkpoint_every: int
    """Epochs between two checkpoints."""
    checkpoint_batches: int | None = None
    """Batches between two checkpoints, where epochs are long."""
    weights: bool = False
    """Whether the trained network's weights stay in the root. Those of a source always do."""
    on_other_device: OnOtherDevice = "continue"
    """What becomes of a checkpoint that was made on another kind of device, or by another torch."""


class Ended(NamedTuple):
    """An attempt's end, and what a person should know of it."""

    ending: Ending
    notes: list[str]


AnyTrial = Trial[Any, Any]


def open_trial(store: Store, spec: AnySpec, device: torch.device) -> AnyTrial:
    """Load what a trial needs and set it to its start.

    Raises:
        InvalidRequest: when the trial cannot exist.
        MissingData, DamagedFile: when its weights or images are not here, or not what they should be.
    """
    return OPENERS[spec.kind](store, spec, device)


OPENERS: dict[str, Callable[[Store, Any, torch.device], AnyTrial]] = {
    PretrainSpec.kind: lambda _, spec, device: open_pretraining(spec, device),
    FinetuneSpec.kind: lambda store, spec, device: open_finetuning(spec, source_weights(store, spec.source), device),
    AttackSpec.kind: open_adversarial,
    InfluenceSpec.kind: open_influence,
    ShapeBiasSpec.kind: open_shape_bias,
    VisualizeSpec.kind: open_visualization,
}
"""By kind."""


def attempt_trial(
    store: Store,
    trial: AnyTrial,
    attempt: Attempt,
    keeping: Keeping,
    stop: Callable[[], bool] = lambda: False,
    on_evaluation: Callable[[Any], None] = lambda _: None,
) -> Ended:
    """Run a trial from its newest checkpoint until it is committed, or until ``stop()`` says to leave.

    Args:
        trial: at its start (``open_trial``).
        stop: asked between any two batches; true makes the trial save and leave.
        on_evaluation: called once for each of the trial's rows made in this attempt.

    Raises:
        ResultsConflict: when the root knows what the trial reads under another digest.
    """
    notes = _begin(store, trial, keeping)
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
    return _commit(store, trial, attempt, keeping, notes)


def attempt_bundle(
    store: Store,
    specs: Sequence[AnySpec],
    device: torch.device,
    attempts: Mapping[str, Attempt],
    keeping: Keeping,
    stop: Callable[[], bool],
    failed: Callable[[str, Exception], None],
) -> dict[str, Ended]:
    """Run trials that differ only in ``blocks`` as ``attempt_trial`` runs each, together in a ``Bundle``.

    Where checkpoints stand at different batches, those furthest behind go on until they meet the next. A bundle of
    one is an ordinary trial, of any kind.

    Args:
        attempts: by trial id.
        failed: told the id of each trial that raised, and what; the others go on.

    Returns:
        How those ended that did not raise, by trial id.
    """
    if len(specs) == 1:
        trial_id = specs[0].trial_id
        try:
            trial = open_trial(store, specs[0], device)
            return {trial_id: attempt_trial(store, trial, attempts[trial_id], keeping, stop)}
        except Exception as error:  # noqa: BLE001  # whatever a trial raises is that trial's failure
            failed(trial_id, error)
            return {}
    run = _BundleRun(store, attempts, keeping, failed)
    for spec in specs:
        assert isinstance(spec, FinetuneSpec), f"{spec.trial_id} cannot be bundled"
        run.open(spec, device)
    while run.bundles and not run.stopped:
        run.advance(stop)
    return run.ended


class _BundleRun:
    """The attempts at the trials of one bundle: several bundles as long as they stand at different batches."""

    def __init__(
        self,
        store: Store,
        attempts: Mapping[str, Attempt],
        keeping: Keeping,
        failed: Callable[[str, Exception], None],
    ) -> None:
        self.bundles: list[Bundle] = []
        self.ended: dict[str, Ended] = {}
        self.stopped = False
        self._store = store
        self._attempts = attempts
        self._keeping = keeping
        self._failed = failed
        self._notes: dict[str, list[str]] = {}
        self._saved: dict[str, tuple[int, int]] = {}

    def open(self, spec: FinetuneSpec, device: torch.device) -> None:
        """Open a trial at its newest checkpoint, and let go at once of what others hold as well."""
        try:
            trial = open_finetuning(spec, source_weights(self._store, spec.source), device)
            self._notes[spec.trial_id] = _begin(self._store, trial, self._keeping)
        except Exception as error:  # noqa: BLE001  # whatever a trial raises is that trial's failure alone
            self._failed(spec.trial_id, error)
            return
        self._saved[spec.trial_id] = trial.position
        self._gather(Bundle(trial, lambda trial, error: self._failed(trial.spec.trial_id, error)))

    def advance(self, stop: Callable[[], bool]) -> None:
        """Bring the bundle that is furthest behind to its next pause; save or commit its trials."""
        bundle = min(self.bundles, key=lambda bundle: bundle.position)
        self.bundles.remove(bundle)
        try:
            self.stopped = _to_next_pause(bundle, self._keeping, stop, {other.position for other in self.bundles})
        except Exception as error:  # noqa: BLE001  # an error in what its trials share
            bundle.fail(error)
        for trial in list(bundle.trials):
            with bundle.apart(trial):
                self._leave(trial)
        if bundle.trials and not bundle.done:
            self._gather(bundle)
        if self.stopped:
            left = [trial.spec.trial_id for bundle in self.bundles for trial in bundle.trials]
            self.ended |= {trial: Ended(Ending.STOPPED, self._notes[trial]) for trial in left}

    def _leave(self, trial: Finetuning) -> None:
        """At a pause: commit a trial that is done, save one that came further."""
        trial_id = trial.spec.trial_id
        if trial.done:
            self.ended[trial_id] = _commit(
                self._store, trial, self._attempts[trial_id], self._keeping, self._notes[trial_id]
            )
        elif trial.position != self._saved[trial_id]:
            save_checkpoint(self._store, trial)
            self._saved[trial_id] = trial.position

    def _gather(self, bundle: Bundle) -> None:
        if not any(other.join(bundle) for other in self.bundles):
            self.bundles.append(bundle)


def _begin(store: Store, trial: AnyTrial, keeping: Keeping) -> list[str]:
    """Bring a trial to its newest good checkpoint; the notes of those passed over."""
    for pin in trial.pins:
        require_pin(store, *pin)
    _ = trial.device_kind  # found out now, and not while the trial saves and leaves
    return restore_checkpoint(store, trial, same_bits=keeping.on_other_device == "restart")


def _commit(store: Store, trial: AnyTrial, attempt: Attempt, keeping: Keeping, notes: list[str]) -> Ended:
    if commit_trial(store, trial, attempt, keeping.weights) is Committed.CONFLICT:
        notes.append(
            f"{trial.spec.trial_id} was committed with other numbers before; the first stand, these are in conflicts/"
        )
    remove_checkpoints(store, trial.spec.trial_id)
    return Ended(Ending.COMMITTED, notes)


def _to_next_pause(
    trial: AnyTrial | Bundle,
    keeping: Keeping,
    stop: Callable[[], bool],
    others: Set[tuple[int, int]] = frozenset(),
) -> bool:
    """Go on to where a checkpoint is due or others wait, or to the end; True when told to stop on the way.

    Args:
        others: positions at which others wait.
    """
    due = trial.epoch + keeping.checkpoint_every - (trial.epoch - 1) % keeping.checkpoint_every
    batches = 0
    stopped = False

    def pause() -> bool:
        nonlocal stopped, batches
        stopped = stop()
        batches += 1
        if batches > 1 and trial.position in others:
            return True
        return stopped or trial.epoch >= due or (keeping.checkpoint_batches or batches) < batches

    trial.advance(pause)
    return stopped and not trial.done
