"""The adapter between Ray Tune and the jobs: one actor, a list of trials, one after another."""

import time
from typing import Any

import torch
from ray import tune

from jobs.finetune import Finetuning, open_finetuning
from jobs.records import Attempt, commit_finetuning
from jobs.results import Store, next_attempt, open_store
from jobs.specs import FinetuneSpec
from orchestrator.failures import record
from orchestrator.outcomes import Outcome

SLICE_SECONDS = 2.0
"""How long a step works before it answers Tune: what a stop request waits for at most, plus one batch."""


class TrialActor(tune.Trainable):
    """Runs the trials of its configuration; the trial's own errors are outcomes, not crashes.

    Configuration: ``job``, with ``trials`` (list of specs as dictionaries), ``root`` and ``launch``.
    """

    def setup(self, config: dict[str, Any]) -> None:
        config = config["job"]
        self._store: Store = open_store(config["root"])
        self._launch: str = config["launch"]
        self._specs = [FinetuneSpec.model_validate(spec) for spec in config["trials"]]
        self._outcomes: dict[str, str] = {}
        self._current: Finetuning | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Tune reuses the actor for its next trials: everything is built anew."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Work for one slice. Done when every trial has an outcome."""
        until = time.monotonic() + SLICE_SECONDS
        while self._pending() and time.monotonic() < until:
            self._work(self._pending()[0], until)
        return {"done": not self._pending(), "outcomes": dict(self._outcomes)}

    def _pending(self) -> list[FinetuneSpec]:
        return [spec for spec in self._specs if spec.trial_id not in self._outcomes]

    def _work(self, spec: FinetuneSpec, until: float) -> None:
        attempt = Attempt(next_attempt(self._store, spec.trial_id), self._launch)
        try:
            trial = self._current = self._current or open_finetuning(spec, _device())
            trial.advance(pause=lambda: time.monotonic() >= until)
            if not trial.done:
                return
            commit_finetuning(self._store, trial, attempt)
            outcome = Outcome.DONE
        except Exception as error:  # noqa: BLE001  # whatever a trial raises is that trial's failure, not the actor's
            record(self._store, spec, attempt, error)
            outcome = Outcome.FAILED
        self._outcomes[spec.trial_id] = outcome.value
        self._current = None


def _device() -> torch.device:
    """The GPU that Ray made visible to this actor, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
