"""The adapter between Ray Tune and the jobs: one actor, a list of trials, one after another."""

from typing import Any

import torch
from ray import tune

from jobs import registry
from jobs.attempts import Ending, Keeping, attempt_trial, open_trial
from jobs.records import Attempt
from jobs.results import next_attempt, open_store
from jobs.specs import from_plain
from orchestrator.failures import record_error
from orchestrator.outcomes import Outcome, State
from orchestrator.stopping import NodeDraining, StopWatcher


class TrialActor(tune.Trainable):
    """Runs the trials of its configuration; a trial's own error is an outcome, not a crash.

    Configuration: ``job``, with ``trials`` (specs as plain values), ``root``, ``launch``, ``cards`` (what the study
    knows besides the registry) and ``keeping`` (as ``Keeping``'s fields).
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._job = config["job"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Tune reuses the actor for its next trials; nothing of the last ones is kept."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Run every trial to its end, or until told to leave. Called once.

        Raises:
            NodeDraining: when the node goes away, so that Tune does not reuse this actor.
        """
        with registry.using(registry.Cards.model_validate(self._job["cards"])):
            return {"done": True, "outcomes": self._run_all()}

    def _run_all(self) -> dict[str, dict[str, object]]:
        store = open_store(self._job["root"])
        stop = StopWatcher(self._job["launch"])
        keeping = Keeping(**self._job["keeping"])
        outcomes = {}
        for values in self._job["trials"]:
            spec = from_plain(values)
            attempt = Attempt(next_attempt(store, spec.trial_id), self._job["launch"])
            try:
                ended = attempt_trial(store, open_trial(store, spec, _device()), attempt, keeping, stop)
                state = State.DONE if ended.ending is Ending.COMMITTED else State.STOPPED
                outcome = Outcome(state, tuple(ended.notes))
            except Exception as error:  # noqa: BLE001  # whatever a trial raises is that trial's failure, not the actor's
                outcome = Outcome.failed(record_error(store, spec.trial_id, attempt, error))
            if stop.draining and outcome.state is State.STOPPED:
                raise NodeDraining(f"node of {spec.trial_id} drains")
            outcomes[spec.trial_id] = outcome.plain()
        return outcomes


def _device() -> torch.device:
    """The GPU that Ray made visible to this actor, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
