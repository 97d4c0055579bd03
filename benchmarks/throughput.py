"""Trials an hour against the baselines (``benchmarks.baselines``), without bundles, on the demo's sources and data.

- By cell (blocks, images): one trial at a time in this process, everything loaded: opening, checkpoints and commit
  included for DeltaSweep; B1's way leaves nothing behind. B0 is a process a trial, its imports included.
- The demo's mix (one seed: 4 sources x 4 sizes), from nothing to the last trial's end, one trial a core at a time:
  ``launch``, B1 through its own Tuner, and B0's processes.

A ratio is DeltaSweep's trials an hour over the baseline's, in the same minute.

Usage: python -m benchmarks.throughput [--repetitions 5] [--released 3] [--epochs 30] [--no-mix]
``--released``: repetitions with B0, which takes longest.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ray
import torch
from rich.console import Console

from benchmarks.baselines import released, tune_program
from benchmarks.rows import Row, beside, report
from jobs.attempts import Attempt, Keeping, attempt_trial, open_trial
from jobs.expansion import expand
from jobs.results import open_store
from jobs.specs import FinetuneSpec
from jobs.study import Study
from orchestrator.launch import launch
from orchestrator.study_files import load_study

CELLS = [(blocks, images) for images in (50, 400) for blocks in (0, 1, 3)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--released", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--no-mix", action="store_true")
    given = parser.parse_args()
    demo = load_study("demo")
    first = next(spec for spec in expand(demo) if isinstance(spec, FinetuneSpec))
    for blocks, images in CELLS:
        spec = first.model_copy(update={"blocks": blocks, "images": images, "epochs": given.epochs})
        report(_cell(spec, given.repetitions, given.released))
    if not given.no_mix:
        report(_mix(demo, given.repetitions, given.released))


def _cell(spec: FinetuneSpec, repetitions: int, with_released: int) -> list[Row]:
    name = f"trials an hour, blocks {spec.blocks}, {spec.images} images: DeltaSweep /"
    _ours(spec)  # loads what stays loaded
    tune_program.run_trial(spec)
    b1 = [_seconds(lambda: tune_program.run_trial(spec)) / _seconds(lambda: _ours(spec)) for _ in range(repetitions)]
    b0 = [
        _seconds(lambda: released.run_in_a_process(spec)) / _seconds(lambda: _ours(spec)) for _ in range(with_released)
    ]
    return [beside(f"{name} B1", b1), *([beside(f"{name} B0", b0)] if b0 else [])]


def _ours(spec: FinetuneSpec) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "root")
        attempt_trial(store, open_trial(store, spec, torch.device("cpu")), Attempt(), Keeping(10))


def _mix(demo: Study, repetitions: int, with_released: int) -> list[Row]:
    """The launch ends the Ray that it started; B1 gets one of its own."""
    one_seed = demo.model_copy(update={"schedule": tuple(row.model_copy(update={"seeds": 1}) for row in demo.schedule)})
    specs = [spec for spec in expand(one_seed) if isinstance(spec, FinetuneSpec)]
    b1 = [_seconds(lambda: _tuned(specs)) / _seconds(lambda: _launched(one_seed)) for _ in range(repetitions)]
    b0 = [_seconds(lambda: _processes(specs)) / _seconds(lambda: _launched(one_seed)) for _ in range(with_released)]
    name = f"trials an hour, the demo's mix of {len(specs)}, from a cold start: DeltaSweep /"
    return [beside(f"{name} B1", b1), *([beside(f"{name} B0", b0)] if b0 else [])]


def _launched(study: Study) -> None:
    with tempfile.TemporaryDirectory() as folder:
        summary = launch(study, open_store(folder), Console(quiet=True))
    if summary.done != summary.planned:
        raise RuntimeError(f"{summary.planned - summary.done} trials are not done")


def _tuned(specs: Sequence[FinetuneSpec]) -> None:
    os.environ.update(tune_program.ENVIRONMENT)
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        tune_program.run(specs)
    finally:
        ray.shutdown()


def _processes(specs: Sequence[FinetuneSpec]) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(released.run_in_a_process, specs))


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
