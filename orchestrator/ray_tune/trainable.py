"""The adapter between Ray Tune and ``jobs``: an actor that runs one trial or a bundle."""

import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from ray import tune

from jobs.catalog.catalog import Cards, Catalog
from jobs.data import device_images
from jobs.errors import InvalidRequest, RootGone, StorageFailure
from jobs.execution.attempt import AttemptStatus
from jobs.execution.bundles import attempt_bundle
from jobs.execution.commit import Attempt, is_committed
from jobs.execution.device import GpuUnusable, shared_device
from jobs.execution.gpu_memory import keep_no_images, recover, refusals
from jobs.execution.retention import RetentionPolicy
from jobs.kind import from_plain
from jobs.results import FailureKind, next_attempt, open_store
from jobs.results.layout import launch_key
from jobs.specs.trial import TrialSpec
from jobs.system.progress import progress_heard_by
from orchestrator.failures.failure_classification import breaks_gpu, context_lost, is_about_inputs, record_error
from orchestrator.failures.outcomes import (
    ActorLeaves,
    GpuFailed,
    GpuRefused,
    MachineFailed,
    NodeDraining,
    Outcome,
    State,
)
from orchestrator.failures.versions import UnfitMachine, require_same
from orchestrator.ray_tune.actor_output import ActorOutput
from orchestrator.ray_tune.stop_signal import StopWatcher


class TrialActor(tune.Trainable):
    """Runs the trials of its configuration together. An exception of a trial is an outcome, not a crash of the actor.

    The configuration has two JSON texts: ``trials``, a list of specs as plain values (several specs differ only in
    ``blocks``), and ``job`` with ``root``, ``launch``, ``cards`` (the study's own, besides the packaged ones),
    ``builders`` (texts of builder files, by name), ``versions`` (of the driver), ``retention`` (the fields of
    ``RetentionPolicy``), ``gpu_share`` (GPUs that the actor requested), ``gpu_memory`` (bytes that its trials are
    planned to need) and ``images_on_gpu`` (whether images may stay there). The result has ``outcomes`` by trial id,
    also as JSON.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._job = json.loads(config["job"])
        self._trials = json.loads(config["trials"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Prepare the reused actor for its next trials. No state of the last ones is kept."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Run every trial to its end or until a stop is requested. Called once per configuration.

        Trials that another launch has committed in the meantime are done.

        Raises:
            ActorLeaves: With the outcomes, so that Tune does not reuse this actor: its node is draining, it cannot be
                trusted to compute on its GPU any more, or a trial failed for an infrastructure reason.
            UnfitMachine: If this machine's package versions differ from the driver's; if a dataset or source model that
                the driver has is missing, damaged or different here; if the launch's results root is not accessible
                here; or if torch does not see the GPU that the actor requested.
        """
        require_same(self._job["versions"])  # first, because a package that adds a kind of trial may be missing here
        specs = [from_plain(values) for values in self._trials]
        return {"done": True, "outcomes": json.dumps(self._run_all(specs))}

    def _run_all(self, specs: Sequence[TrialSpec]) -> dict[str, dict[str, object]]:
        try:
            store = open_store(self._job["root"])
        except InvalidRequest as error:
            raise _unfit(error) from error
        launch = self._job["launch"]
        catalog = Catalog(Cards.model_validate(self._job["cards"]), self._job["builders"])
        retention = RetentionPolicy(**self._job["retention"])
        try:
            store.hold(launch_key(launch))
            waiting = [spec for spec in specs if not is_committed(store, spec, catalog, retention.weights)]
            attempts = {spec.trial_id: Attempt(next_attempt(store, spec.trial_id), launch) for spec in waiting}
        except RootGone as error:
            raise _unfit(error) from error
        except StorageFailure as error:
            first = Attempt(launch=launch)
            return _answer({spec.trial_id: record_error(store, spec.trial_id, first, error) for spec in specs})
        outcomes = {spec.trial_id: Outcome(State.DONE) for spec in specs if spec.trial_id not in attempts}
        if not waiting:
            return _answer(outcomes)
        try:
            device = shared_device(self._job["gpu_share"], self._job["gpu_memory"])
        except GpuUnusable as error:
            raise UnfitMachine(f"on {socket.gethostname()}: {error}") from error
        except Exception as error:  # noqa: BLE001  # its GPU is lost, for example
            failures = {trial: record_error(store, trial, attempt, error) for trial, attempt in attempts.items()}
            return _answer(outcomes | failures, GpuFailed)
        if not self._job["images_on_gpu"]:
            keep_no_images(device)
        gpu_errors: list[Exception] = []

        def failed(trial: str, error: Exception) -> None:
            if is_about_inputs(store, error):  # the driver has checked them, so this machine is at fault
                raise _unfit(error) from error
            if breaks_gpu(error):
                gpu_errors.append(error)
                if error is not gpu_errors[0]:
                    error = context_lost(error)
            outcomes[trial] = record_error(store, trial, attempts[trial], error)

        stop = StopWatcher(launch, specs[0].trial_id)
        numbers = {trial: attempt.number for trial, attempt in attempts.items()}
        with progress_heard_by(stop.progressed), ActorOutput(store, numbers) as output:
            results = attempt_bundle(
                store, waiting, catalog, device, attempts, retention, stop, failed, output.evaluated
            )
        for trial, ended in results.items():
            state = State.DONE if ended.status is AttemptStatus.COMMITTED else State.STOPPED
            outcomes[trial] = Outcome(state, tuple(ended.notes))
        if gpu_errors:
            return _answer(outcomes, GpuFailed)
        if any(outcome.kind is FailureKind.MEMORY for outcome in outcomes.values()):
            device_images.release()
            recover(device)
        if stop.draining and any(outcome.state is State.STOPPED for outcome in outcomes.values()):
            return _answer(outcomes, NodeDraining)
        return _answer(outcomes, GpuRefused if refusals.silent(device) else None)


def _answer(outcomes: Mapping[str, Outcome], leaves: type[ActorLeaves] | None = None) -> dict[str, dict[str, object]]:
    """Return the outcomes of trials on this machine as plain values.

    Raises:
        ActorLeaves: With the outcomes, if this actor must not be reused: for the given reason, or because a trial
            failed for an infrastructure reason.
    """
    host = socket.gethostname()
    plain = {trial: outcome._replace(host=host).plain() for trial, outcome in outcomes.items()}
    if leaves is None and any(outcome.kind is FailureKind.INFRASTRUCTURE for outcome in outcomes.values()):
        leaves = MachineFailed
    if leaves is not None:
        raise leaves(plain)
    return plain


def _unfit(error: Exception) -> UnfitMachine:
    return UnfitMachine(
        "expected the launch's results root, data and source models on every machine; "
        f"on {socket.gethostname()}: {error}"
    )
