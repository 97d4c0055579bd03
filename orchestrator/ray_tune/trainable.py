"""The adapter between Ray Tune and ``jobs``: an actor that runs one trial or a bundle."""

import json
import socket
from collections.abc import Sequence
from typing import Any

from ray import tune

from jobs.catalog.catalog import Cards, Catalog
from jobs.data import device_images
from jobs.errors import RootGone, StorageFailure
from jobs.execution.attempt import AttemptStatus
from jobs.execution.bundles import attempt_bundle
from jobs.execution.commit import Attempt
from jobs.execution.device import GpuUnusable, shared_device
from jobs.execution.gpu_memory import recover, refusals
from jobs.execution.retention import RetentionPolicy
from jobs.kind import from_plain
from jobs.results import FailureKind, next_attempt, open_store
from jobs.results.layout import launch_key
from jobs.specs.trial import TrialSpec
from jobs.system.progress import progress_heard_by
from orchestrator.failures.failure_classification import is_about_inputs, record_error
from orchestrator.failures.outcomes import GpuRefused, NodeDraining, Outcome, State
from orchestrator.failures.versions import UnfitMachine, require_same
from orchestrator.ray_tune.actor_output import ActorOutput
from orchestrator.ray_tune.stop_signal import StopWatcher


class TrialActor(tune.Trainable):
    """Runs the trials of its configuration together. An exception of a trial is an outcome, not a crash of the actor.

    The configuration has two JSON texts: ``trials``, a list of specs as plain values (several specs differ only in
    ``blocks``), and ``job`` with ``root``, ``launch``, ``cards`` (the study's own, besides the packaged ones),
    ``builders`` (texts of builder files, by name), ``versions`` (of the driver), ``retention`` (the fields of
    ``RetentionPolicy``), ``gpu_share`` (GPUs that the actor requested) and ``gpu_memory`` (bytes that its trials are
    planned to need). The result has ``outcomes`` by trial id, also as JSON.
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

        Raises:
            NodeDraining, GpuRefused: So that Tune does not reuse this actor.
            UnfitMachine: If this machine's package versions differ from the driver's; if a dataset or source model that
                the driver has is missing, damaged or different here; if the launch's results root is not accessible here;
                or if torch does not see the GPU that the actor requested.
        """
        require_same(self._job["versions"])  # first, because a package that adds a kind of trial may be missing here
        specs = [from_plain(values) for values in self._trials]
        return {"done": True, "outcomes": json.dumps(self._run_all(specs))}

    def _run_all(self, specs: Sequence[TrialSpec]) -> dict[str, dict[str, object]]:
        store = open_store(self._job["root"])
        launch = self._job["launch"]
        try:
            store.hold(launch_key(launch))
        except RootGone as error:
            raise _unfit(error) from error
        catalog = Catalog(Cards.model_validate(self._job["cards"]), self._job["builders"])
        stop = StopWatcher(launch, specs[0].trial_id)
        retention = RetentionPolicy(**self._job["retention"])
        try:
            attempts = {s.trial_id: Attempt(next_attempt(store, s.trial_id), launch) for s in specs}
        except StorageFailure as error:
            first = Attempt(launch=launch)
            return {s.trial_id: record_error(store, s.trial_id, first, error).plain() for s in specs}
        outcomes: dict[str, Outcome] = {}

        def failed(trial: str, error: Exception) -> None:
            if is_about_inputs(store, error):  # the driver has checked them, so this machine is at fault
                raise _unfit(error) from error
            outcomes[trial] = record_error(store, trial, attempts[trial], error)

        numbers = {trial: attempt.number for trial, attempt in attempts.items()}
        try:
            device = shared_device(self._job["gpu_share"], self._job["gpu_memory"])
        except GpuUnusable as error:
            raise UnfitMachine(f"on {socket.gethostname()}: {error}") from error
        with progress_heard_by(stop.progressed), ActorOutput(store, numbers) as output:
            results = attempt_bundle(store, specs, catalog, device, attempts, retention, stop, failed, output.evaluated)
        for trial, ended in results.items():
            state = State.DONE if ended.status is AttemptStatus.COMMITTED else State.STOPPED
            outcomes[trial] = Outcome(state, tuple(ended.notes))
        plain = {trial: outcome.plain() for trial, outcome in outcomes.items()}
        if any(outcome.kind is FailureKind.MEMORY for outcome in outcomes.values()):
            device_images.release()
            recover(device)
        if stop.draining and any(outcome.state is State.STOPPED for outcome in outcomes.values()):
            raise NodeDraining(plain)
        if refusals.silent(device):
            raise GpuRefused(plain)
        return plain


def _unfit(error: Exception) -> UnfitMachine:
    return UnfitMachine(
        "expected the launch's results root, data and source models on every machine; "
        f"on {socket.gethostname()}: {error}"
    )
