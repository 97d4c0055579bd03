"""The adapter between Ray Tune and the jobs: one actor, one trial or a bundle of them."""

import json
import socket
from typing import Any

import torch
from ray import tune

from jobs import registry
from jobs.attempts import Ending, Keeping, attempt_bundle
from jobs.errors import MissingData, ResultsConflict, RootGone, StorageFailure
from jobs.progress import progress_heard_by
from jobs.records import Attempt
from jobs.results import next_attempt, open_store
from jobs.results.layout import launch_key
from jobs.specs import from_plain
from orchestrator.failures import record_error
from orchestrator.outcomes import Outcome, State
from orchestrator.stopping import NodeDraining, StopWatcher
from orchestrator.versions import UnfitMachine, require_same


class TrialActor(tune.Trainable):
    """Runs the trials of its configuration together; a trial's own error is an outcome, not a crash.

    Configuration, both as JSON: ``trials``, a list of specs as plain values (several differ only in ``blocks``);
    ``job`` with ``root``, ``launch``, ``cards`` (what the study knows besides the registry), ``versions`` (of the
    driver) and ``keeping`` (as ``Keeping``'s fields). Result: ``outcomes`` by trial id, as JSON, too.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._job = json.loads(config["job"])
        self._specs = [from_plain(values) for values in json.loads(config["trials"])]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Tune reuses the actor for its next trials; nothing of the last ones is kept."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Run every trial to its end, or until told to leave. Called once.

        Raises:
            NodeDraining: when the node goes away, so that Tune does not reuse this actor.
            UnfitMachine: when this machine has other packages than the driver, lacks a dataset or source model that the
                driver has found, or has another one; or when the launch's results root is not here, or not any more.
        """
        require_same(self._job["versions"])
        with registry.using(registry.Cards.model_validate(self._job["cards"])):
            return {"done": True, "outcomes": json.dumps(self._run_all())}

    def _run_all(self) -> dict[str, dict[str, object]]:
        store = open_store(self._job["root"])
        launch = self._job["launch"]
        try:
            store.hold(launch_key(launch))
        except RootGone as error:
            raise _unfit(error) from error
        stop = StopWatcher(launch, self._specs[0].trial_id)
        keeping = Keeping(**self._job["keeping"])
        try:
            attempts = {s.trial_id: Attempt(next_attempt(store, s.trial_id), launch) for s in self._specs}
        except StorageFailure as error:
            first = Attempt(launch=launch)
            return {s.trial_id: record_error(store, s.trial_id, first, error).plain() for s in self._specs}
        outcomes: dict[str, Outcome] = {}

        def failed(trial: str, error: Exception) -> None:
            if isinstance(error, MissingData | ResultsConflict):  # the driver has looked: it is this machine's own
                raise _unfit(error) from error
            outcomes[trial] = record_error(store, trial, attempts[trial], error)

        with progress_heard_by(stop.progressed):
            found = attempt_bundle(store, self._specs, _device(), attempts, keeping, stop, failed)
        for trial, ended in found.items():
            state = State.DONE if ended.ending is Ending.COMMITTED else State.STOPPED
            outcomes[trial] = Outcome(state, tuple(ended.notes))
        plain = {trial: outcome.plain() for trial, outcome in outcomes.items()}
        if stop.draining and any(outcome.state is State.STOPPED for outcome in outcomes.values()):
            raise NodeDraining(plain)
        return plain


def _unfit(error: Exception) -> UnfitMachine:
    return UnfitMachine(
        f"all machines of a launch need its results root, data and source models; on {socket.gethostname()}: {error}"
    )


def _device() -> torch.device:
    """The GPU that Ray made visible to this actor, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
