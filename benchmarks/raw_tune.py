"""Ray Tune alone at its fastest: reused actors, no loggers, and trials that do nothing and write nothing.

Usage: python -m benchmarks.raw_tune TRIALS OUT

Writes JSON to OUT: Unix times of the first trial and of the end, including Ray's shutdown.
"""

import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune

ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_WARN_THRESHOLD_S": "30",
}
"""The fastest settings of Tune, as DeltaSweep uses them."""


class Nothing(tune.Trainable):
    """Does nothing, once."""

    def setup(self, config: dict[str, Any]) -> None:
        pass

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        return {"done": True, "at": time.time()}


def main(trials: int, out: Path) -> None:
    os.environ.update(ENVIRONMENT)
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        results = tune.Tuner(
            tune.with_resources(Nothing, tune.PlacementGroupFactory([{"CPU": 1}])),
            param_space={"trial": tune.grid_search(list(range(trials)))},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(
                name="raw",
                storage_path=scratch,
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        ).fit()
        if results.num_errors:
            raise RuntimeError(f"{results.num_errors} trials failed")
        first = min(result.metrics["at"] for result in map(results.__getitem__, range(len(results))) if result.metrics)
    ray.shutdown()
    ended = time.time()
    out.write_text(json.dumps({"first": first, "ended": ended}))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
