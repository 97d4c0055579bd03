"""The seam to Ray Tune: one Tuner over the pending trials, quiet, with reused actors."""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import tune

from jobs.errors import InvalidRequest
from jobs.specs import FinetuneSpec
from orchestrator.outcomes import Outcome
from orchestrator.study import Resources
from orchestrator.trainable import TrialActor

# Read by Tune when it is imported or started. Its own state is never read back (design, promise 2), so it
# is written as rarely as possible, and its loggers (a folder of files a trial) stay off.
_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_THRESHOLD_S": "30",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}

STOP_GRACE_SECONDS = 60.0
"""How long running trials may take to leave after a stop was asked for."""


@dataclass
class Watch:
    """What the driver knows of a launch while Tune runs it, and whether it should stop."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    crashes: dict[str, str] = field(default_factory=dict)
    """Trial id to message, for actors that ended without an outcome."""
    running: int = 0
    stop_requested_at: float | None = None
    on_change: Callable[[], None] = lambda: None

    def __reduce__(self) -> tuple[type["Watch"], tuple[()]]:
        """Tune pickles its stopper and callbacks into a state that is never read; this belongs to the driver."""
        return Watch, ()

    def request_stop(self) -> None:
        """Ask running trials to leave at their next slice; callable from a signal handler."""
        self.stop_requested_at = self.stop_requested_at or time.monotonic()

    @property
    def stopping(self) -> bool:
        return self.stop_requested_at is not None


def connect(address: str | None) -> None:
    """Start Ray on this machine, or join the cluster at ``address``."""
    os.environ.update(_ENVIRONMENT)
    try:
        ray.init(
            address=address,
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except ConnectionError as error:
        raise InvalidRequest(f"no Ray cluster answers at {address}: {error}") from error


def share(resources: Resources) -> dict[str, float]:
    """What an actor asks Ray for; without any GPU in the cluster, its CPU share alone.

    Raises:
        InvalidRequest: when no machine of the cluster is large enough, so that the study would wait for ever.
    """
    has_gpus = ray.cluster_resources().get("GPU", 0) > 0  # type: ignore[no-untyped-call]
    wanted = {"CPU": resources.cpu} | ({"GPU": resources.gpu} if has_gpus and resources.gpu else {})
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    if not any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in nodes):
        largest = {name: max((node.get(name, 0) for node in nodes), default=0) for name in wanted}
        raise InvalidRequest(
            f"a trial asks for {wanted} on one machine; the most that any has is {largest}. Lower the study's resources"
        )
    return wanted


def run_round(trials: Sequence[FinetuneSpec], root: str, launch: str, wanted: dict[str, float], watch: Watch) -> None:
    """Run the trials through one Tuner; what became of them is in ``watch`` and in the results root."""
    configurations = [{"trials": [spec.model_dump(mode="json")], "root": root, "launch": launch} for spec in trials]
    with tempfile.TemporaryDirectory(prefix="deltasweep-tune-") as scratch:
        tune.Tuner(
            tune.with_resources(TrialActor, tune.PlacementGroupFactory([wanted])),
            param_space={"job": tune.grid_search(configurations)},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(
                name=launch,
                storage_path=scratch,
                verbose=0,
                stop=_StopOnRequest(watch),
                callbacks=[_Observer(watch)],
                # our checkpoints lie under the trial id in the results root, not in Tune's storage
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=0),
            ),
        ).fit()


class _StopOnRequest(tune.Stopper):
    """Ends each trial at the result after a stop was asked for, and everything once none is running."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self._watch.stopping

    def stop_all(self) -> bool:
        asked = self._watch.stop_requested_at
        if asked is None:
            return False
        return self._watch.running == 0 or time.monotonic() - asked > STOP_GRACE_SECONDS


class _Observer(tune.Callback):
    """Turns Tune's events into the watch's counts."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._watch.on_change()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._watch.running += 1

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._watch.running -= 1
        outcomes = (trial.last_result or {}).get("outcomes", {})
        self._watch.outcomes.update({trial_id: Outcome(value) for trial_id, value in outcomes.items()})

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._watch.running -= 1
        for spec in trial.config["job"]["trials"]:
            self._watch.crashes[FinetuneSpec.model_validate(spec).trial_id] = str(trial.error_file or "actor ended")
