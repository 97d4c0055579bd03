"""Cost of checkpoints as a fraction of a trial's time, for the demo's trials with three checkpoints each.

This is the time in ``save_checkpoint`` over the time of the whole attempt in the same run, including opening and
commit. The difference between runs with and without checkpoints would be lost in the noise.

Usage: python -m benchmarks.checkpoints [REPETITIONS]
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.rows import at_most, report
from jobs.catalog.catalog import PACKAGED
from jobs.execution import attempt
from jobs.execution.attempt import attempt_trial, open_trial
from jobs.execution.checkpoints import save_checkpoint
from jobs.execution.commit import Attempt
from jobs.execution.retention import RetentionPolicy
from jobs.execution.trial import Trial
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.results import Store, open_store
from jobs.study.expand import expand
from orchestrator.study.load import load_study

EVERY = 8  # epochs: before epochs 9, 17 and 25 of 30
TARGET = 0.03


def main(repetitions: int) -> None:
    demo = [spec for spec in expand(load_study("demo")) if isinstance(spec, FinetuneSpec)]
    one_seed = [spec for spec in demo if spec.seed == demo[0].seed and spec.source == demo[0].source]
    shares = [[_share(spec) for _ in range(repetitions)] for spec in one_seed]
    rows = [
        at_most(f"checkpoint share of a demo trial, {spec.images} images, 3 checkpoints", found, TARGET)
        for spec, found in zip(one_seed, shares, strict=True)
    ]
    over_the_demo = [sum(column) / len(column) for column in zip(*shares, strict=True)]
    report([*rows, at_most("checkpoint share of the demo's trials, mean over sizes", over_the_demo, TARGET)])


def _share(spec: FinetuneSpec) -> float:
    """Return the fraction of an attempt that is spent on saving checkpoints.

    Raises:
        RuntimeError: Unless there are exactly three checkpoints.
    """
    saving: list[float] = []

    def timed(store: Store, trial: Trial[Any, Any]) -> None:
        started = time.perf_counter()
        save_checkpoint(store, trial)
        saving.append(time.perf_counter() - started)

    with patch.object(attempt, "save_checkpoint", timed), tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        store = open_store(Path(folder) / "root")
        attempt_trial(store, open_trial(store, spec, PACKAGED, torch.device("cpu")), Attempt(), RetentionPolicy(EVERY))
        whole = time.perf_counter() - started
    if len(saving) != 3:
        raise RuntimeError(f"expected 3 checkpoints; got {len(saving)}")
    return sum(saving) / whole


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
