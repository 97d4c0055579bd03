"""Attempts at several trials in one actor, which share work as far as their kind allows."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol, Self

import torch

from jobs.catalog.catalog import Catalog
from jobs.execution.attempt import (
    AnyTrial,
    AttemptResult,
    AttemptStatus,
    Paused,
    attempt_trial,
    begin_attempt,
    commit_attempt,
    open_trial,
    to_next_pause,
)
from jobs.execution.checkpoints import save_checkpoint
from jobs.execution.commit import Attempt
from jobs.execution.gpu_memory import refusals
from jobs.execution.retention import RetentionPolicy
from jobs.kind import kind_of, load
from jobs.results import Store
from jobs.specs.trial import TrialSpec


class Bundle(Paused, Protocol):
    """Trials in progress that are at the same position. A trial that fails leaves; the others continue."""

    trials: list[AnyTrial]
    """The trials that have not failed."""

    def __init__(self, trial: AnyTrial, failed: Callable[[AnyTrial, Exception], None]) -> None: ...
    def join(self, other: Self) -> bool:
        """Take over the trials of another bundle; return False if the two cannot share work."""

    def apart(self, trial: AnyTrial) -> AbstractContextManager[None]:
        """Enter a context in which an error belongs to this trial alone: the trial leaves the bundle."""

    def fail(self, error: Exception) -> None:
        """Fail all trials because of an error in their shared work."""


def attempt_bundle(
    store: Store,
    specs: Sequence[TrialSpec],
    catalog: Catalog,
    device: torch.device,
    attempts: Mapping[str, Attempt],
    retention: RetentionPolicy,
    stop: Callable[[], bool],
    failed: Callable[[str, Exception], None],
    on_evaluation: Callable[[str, Any], None] = lambda *_: None,
) -> dict[str, AttemptResult]:
    """Run trials that differ only in ``blocks`` in a shared ``Bundle``, each with the result of ``attempt_trial``.

    If their checkpoints are at different batches, the trials furthest behind run until they reach the next ones. A
    single spec of any kind runs as an ordinary trial.

    Args:
        attempts: by trial id.
        failed: called with the id and the error of each trial that raises; the others continue.
        on_evaluation: called with the id and each row that a trial completes in this attempt, at its next pause.

    Returns:
        The results of the trials that did not raise, by trial id.
    """
    if len(specs) == 1:
        trial_id = specs[0].trial_id
        try:
            trial = open_trial(store, specs[0], catalog, device)
            tell = partial(on_evaluation, trial_id)
            return {trial_id: attempt_trial(store, trial, attempts[trial_id], retention, stop, tell)}
        except Exception as error:  # noqa: BLE001  # every error of a trial is reported as its failure
            failed(trial_id, refusals.caught(error, device))
            return {}
    run = _BundleRun(store, device, attempts, retention, failed, on_evaluation)
    for spec in specs:
        run.open(spec, catalog)
    while run.bundles and not run.stopped:
        run.advance(stop)
    return run.ended


class _BundleRun:
    """Attempts at the trials of one bundle, in several bundles while they are at different batches."""

    def __init__(
        self,
        store: Store,
        device: torch.device,
        attempts: Mapping[str, Attempt],
        retention: RetentionPolicy,
        failed: Callable[[str, Exception], None],
        on_evaluation: Callable[[str, Any], None],
    ) -> None:
        self.bundles: list[Bundle] = []
        self.ended: dict[str, AttemptResult] = {}
        self.stopped = False
        self._store = store
        self._device = device
        self._attempts = attempts
        self._retention = retention
        self._failed = failed
        self._on_evaluation = on_evaluation
        self._shown: dict[str, int] = {}
        self._notes: dict[str, list[str]] = {}
        self._saved: dict[str, tuple[int, int]] = {}

    def open(self, spec: TrialSpec, catalog: Catalog) -> None:
        """Open a trial at its newest checkpoint and join it with others at once, which frees what they share."""
        try:
            trial = open_trial(self._store, spec, catalog, self._device)
            self._notes[spec.trial_id] = begin_attempt(self._store, trial, self._retention)
        except Exception as error:  # noqa: BLE001  # every error of a trial is reported as its failure
            self._failed(spec.trial_id, refusals.caught(error, self._device))
            return
        self._saved[spec.trial_id] = trial.position
        self._shown[spec.trial_id] = len(trial.evaluations)
        bundle: type[Bundle] = load(bundle_class(spec))
        self._gather(bundle(trial, lambda trial, error: self._failed(trial.spec.trial_id, error)))

    def advance(self, stop: Callable[[], bool]) -> None:
        """Advance the bundle that is furthest behind to its next pause; save or commit its trials."""
        bundle = min(self.bundles, key=lambda bundle: bundle.position)
        self.bundles.remove(bundle)
        try:
            self.stopped = to_next_pause(bundle, self._retention, stop, {other.position for other in self.bundles})
        except Exception as error:  # noqa: BLE001  # an error in the shared work of its trials
            bundle.fail(refusals.caught(error, self._device))
        for trial in list(bundle.trials):
            with bundle.apart(trial):
                self._leave(trial)
        if bundle.trials and not bundle.done:
            self._gather(bundle)
        if self.stopped:
            left = [trial.spec.trial_id for bundle in self.bundles for trial in bundle.trials]
            self.ended |= {trial: AttemptResult(AttemptStatus.STOPPED, self._notes[trial]) for trial in left}

    def _leave(self, trial: AnyTrial) -> None:
        """Commit a trial that is done, or checkpoint one that has made progress; called at a pause."""
        trial_id = trial.spec.trial_id
        for row in trial.evaluations[self._shown[trial_id] :]:
            self._on_evaluation(trial_id, row)
        self._shown[trial_id] = len(trial.evaluations)
        if trial.done:
            self.ended[trial_id] = commit_attempt(
                self._store, trial, self._attempts[trial_id], self._retention, self._notes[trial_id]
            )
        elif trial.position != self._saved[trial_id]:
            save_checkpoint(self._store, trial)
            self._saved[trial_id] = trial.position

    def _gather(self, bundle: Bundle) -> None:
        if not any(other.join(bundle) for other in self.bundles):
            self.bundles.append(bundle)


def bundle_class(spec: TrialSpec) -> str:
    """Return the import path of the class that bundles trials like this one."""
    sharing = kind_of(spec).sharing
    assert sharing is not None, f"{spec.trial_id} cannot be bundled"
    return sharing.bundle
