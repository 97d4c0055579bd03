"""Launches without Ray: each round runs its trials one after another in this process.

They are reported to the driver as Tune reports them. For tests of what a launch decides, records and leaves behind;
``test_launch`` and ``test_ray`` check that Ray gives the same results.
"""

import json
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle
from ray.exceptions import RayTaskError

from jobs.kind import plain
from jobs.specs.trial import TrialSpec
from orchestrator.launching import launch
from orchestrator.launching.launch_state import LaunchState
from orchestrator.ray_tune import trainable, tuner
from orchestrator.ray_tune.callbacks import Reporter
from orchestrator.ray_tune.trainable import TrialActor


class NeverStops:
    """A stop watcher of a launch that is not stopped, on a node that is not draining."""

    stopping = draining = False

    def __init__(self, launch: str, actor: str) -> None:
        pass

    def progressed(self) -> None:
        pass

    def __call__(self) -> bool:
        return False


def error_file(error: Exception, file: Path) -> str:
    """Write the file of Tune about an exception that an actor has raised, as Ray raises it in the driver; return its
    path.
    """
    text = "".join(traceback.format_exception(error))
    actor = {"proctitle": "ray::TrialActor.train", "actor_repr": "TrialActor", "actor_id": "0123"}
    raised = RayTaskError("train", text, error, **actor)  # type: ignore[no-untyped-call]  # untyped in Ray
    file.write_bytes(cloudpickle.dumps(raised.as_instanceof_cause()))  # type: ignore[no-untyped-call]
    return str(file)


def replace_ray(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make launches in this process run without Ray.

    Args:
        folder: The folder through which an actor's error is passed.
    """

    def run_round(
        bundles: Sequence[Sequence[TrialSpec]], job: dict[str, Any], share: tuner.Share, state: LaunchState
    ) -> None:
        reporter = Reporter(state)
        for number, bundle in enumerate(bundles):
            reporter.on_step_begin(number, [])
            if state.all_left:
                return
            config = {"trials": json.dumps([plain(spec) for spec in bundle]), "job": json.dumps(job)}
            tune_trial = SimpleNamespace(
                trial_id=f"{number:05}", config=config, last_result=None, pickled_error_file=None, error_file=None
            )
            reporter.on_trial_start(number, [], tune_trial)
            actor: TrialActor = object.__new__(TrialActor)
            actor.setup(config)
            try:
                tune_trial.last_result = actor.step()
            except Exception as error:  # noqa: BLE001  # any error of an actor reaches the driver wrapped by Ray
                tune_trial.pickled_error_file = error_file(error, folder / f"{state.launch}-{number}.pkl")
                reporter.on_trial_error(number, [], tune_trial)
            else:
                reporter.on_trial_complete(number, [], tune_trial)

    flag = SimpleNamespace(set=SimpleNamespace(remote=lambda: None))
    patch.setattr(launch, "Listener", lambda flag, patience: lambda actors: None)
    patch.setattr(tuner, "require_answer", lambda address: None)
    patch.setattr(tuner, "connect", lambda address: None)
    patch.setattr(tuner, "share_of", lambda resources, say: {"CPU": resources.cpu})
    patch.setattr(tuner, "largest_multiple", lambda share: 1)
    patch.setattr(tuner, "billed_units", lambda: 1.0)
    patch.setattr(tuner, "run_round", run_round)
    patch.setattr(launch, "raise_flag_for", lambda name: flag)
    patch.setattr(trainable, "StopWatcher", NeverStops)
