"""Launches without Ray: rounds one trial after another in this process, told to the driver as Tune tells them.

For tests of what a launch decides, records and leaves behind. That Ray gives the same is what ``test_launch`` and
``test_ray`` hold.
"""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayTaskError

from jobs.specs import AnySpec, plain
from orchestrator import launch, trainable, tuning
from orchestrator.trainable import TrialActor
from orchestrator.watch import Observer, Watch


class NeverStops:
    """A stop watcher whose launch is not stopped and whose node does not drain."""

    stopping = draining = False

    def __init__(self, launch: str, actor: str) -> None:
        pass

    def progressed(self) -> None:
        pass

    def __call__(self) -> bool:
        return False


def replace_ray(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let launches of this process do without Ray.

    Args:
        folder: for what an actor's error is handed over in.
    """

    def run_round(bundles: Sequence[Sequence[AnySpec]], job: dict[str, Any], share: tuning.Share, watch: Watch) -> None:
        observer = Observer(watch)
        for number, bundle in enumerate(bundles):
            observer.on_step_begin(number, [])
            if watch.all_left:
                return
            config = {"trials": json.dumps([plain(spec) for spec in bundle]), "job": json.dumps(job)}
            tune_trial = SimpleNamespace(
                trial_id=f"{number:05}", config=config, last_result=None, pickled_error_file=None, error_file=None
            )
            observer.on_trial_start(number, [], tune_trial)
            actor: TrialActor = object.__new__(TrialActor)
            actor.setup(config)
            try:
                tune_trial.last_result = actor.step()
            except Exception as error:  # noqa: BLE001  # whatever an actor raises reaches the driver in Ray's wrapping
                file = folder / f"{watch.launch}-{number}.pkl"
                file.write_bytes(pickle.dumps(RayTaskError("step", "traceback", error)))  # type: ignore[no-untyped-call]  # Ray gives it no types
                tune_trial.pickled_error_file = str(file)
                observer.on_trial_error(number, [], tune_trial)
            else:
                observer.on_trial_complete(number, [], tune_trial)

    flag = SimpleNamespace(set=SimpleNamespace(remote=lambda: None))
    patch.setattr(launch, "Listener", lambda _: lambda actors: None)
    patch.setattr(tuning, "require_answer", lambda address: None)
    patch.setattr(tuning, "connect", lambda address: None)
    patch.setattr(tuning, "share_of", lambda resources, say: {"CPU": resources.cpu})
    patch.setattr(tuning, "largest_multiple", lambda share: 1)
    patch.setattr(tuning, "billed_units", lambda: 1.0)
    patch.setattr(tuning, "run_round", run_round)
    patch.setattr(launch, "raise_flag_for", lambda name: flag)
    patch.setattr(trainable, "StopWatcher", NeverStops)
