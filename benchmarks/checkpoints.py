"""What checkpoints cost: their share of a trial's time, on the demo's trials with three checkpoints each.

The time inside ``save_checkpoint`` over the time of the whole attempt, opening and commit included, in the
same run: the difference of two runs with and without checkpoints would drown in this kind of machine's noise.

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
from jobs import attempts
from jobs.attempts import Keeping, attempt_trial, open_trial
from jobs.checkpoints import save_checkpoint
from jobs.expansion import expand
from jobs.records import Attempt
from jobs.results import Store, open_store
from jobs.specs import FinetuneSpec
from jobs.trial import Trial
from orchestrator.study_files import load_study

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
    """Seconds saving over seconds of one attempt; exactly three checkpoints or an error."""
    saving: list[float] = []

    def timed(store: Store, trial: Trial[Any, Any]) -> None:
        started = time.perf_counter()
        save_checkpoint(store, trial)
        saving.append(time.perf_counter() - started)

    with patch.object(attempts, "save_checkpoint", timed), tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        store = open_store(Path(folder) / "root")
        attempt_trial(store, open_trial(store, spec, torch.device("cpu")), Attempt(), Keeping(EVERY))
        whole = time.perf_counter() - started
    if len(saving) != 3:
        raise RuntimeError(f"expected 3 checkpoints, saw {len(saving)}")
    return sum(saving) / whole


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
