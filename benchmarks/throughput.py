"""Trials per hour compared with the baselines (``benchmarks.baselines``), on the demo's sources and data.

- For each cell (blocks, images) with separate trials, and for each size with blocks 0, 1 and 3 in a bundle: CPU seconds
  in this process, with everything loaded. DeltaSweep's include opening, checkpoints and commit; B1 writes nothing. B0
  starts a process per trial, imports included.
- The demo's mix at blocks 0, 1 and 3 (4 sources x 4 sizes x 5 seeds): wall time from a cold start to the end of the
  last trial, with one trial or bundle per core at a time, for ``launch``, for B1 in its own Tuner, and for B0's
  processes. B0's processes share nothing, so B0 is timed on the trials of one seed and multiplied by five.

A ratio is DeltaSweep's trials per hour over the baseline's, one measured right after the other.

Usage: python -m benchmarks.throughput [--repetitions 5] [--released 3] [--mix 3] [--epochs 30] [--no-cells]
``--released``: number of repetitions of bundles with B0, which takes longest. Separate trials, which have no target,
and the mix, which averages over 48 of B0's processes, are timed with B0 once.
``--mix``: number of repetitions of the mix with B1; 0 to skip the mix.
"""

import argparse
import logging
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ray
import torch
from rich.console import Console

from benchmarks.baselines import released, tune_program
from benchmarks.rows import Row, at_least, beside, report
from jobs.catalog.catalog import PACKAGED
from jobs.execution.bundles import attempt_bundle
from jobs.execution.commit import Attempt
from jobs.execution.retention import RetentionPolicy
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.results import open_store
from jobs.study.expand import expand
from jobs.study.model import Study
from orchestrator.launching.launch import launch
from orchestrator.study.load import load_study

IMAGES, BLOCKS = (50, 400), (0, 1, 3)
OVER_B1, OVER_B0 = 1.3, 8.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--released", type=int, default=3)
    parser.add_argument("--mix", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--no-cells", action="store_true")
    given = parser.parse_args()
    demo = load_study("demo")
    first = next(spec for spec in expand(demo) if isinstance(spec, FinetuneSpec))
    for images in () if given.no_cells else IMAGES:
        trials = [
            first.model_copy(update={"blocks": blocks, "images": images, "epochs": given.epochs}) for blocks in BLOCKS
        ]
        for spec in trials:
            name = f"blocks {spec.blocks}, {images} images"
            report(_in_process(name, [spec], given.repetitions, min(1, given.released)))
        name = f"blocks 0, 1, 3 in a bundle, {images} images"
        report(_in_process(name, trials, given.repetitions, given.released))
    if given.mix:
        report(_mix(demo, given.mix, min(1, given.released)))


def _in_process(name: str, specs: Sequence[FinetuneSpec], repetitions: int, with_released: int) -> list[Row]:
    def b1() -> None:
        for spec in specs:
            tune_program.run_trial(spec)

    def b0() -> None:
        for spec in specs:
            released.run_in_a_process(spec)

    _ours(specs)  # warm-up
    b1()
    over_b1 = [_processor(b1) / _processor(lambda: _ours(specs)) for _ in range(repetitions)]
    over_b0 = [_processor(b0) / _processor(lambda: _ours(specs)) for _ in range(with_released)]
    return _rows(f"trials per hour, {name}", over_b1, over_b0, targets=len(specs) > 1)


def _rows(name: str, over_b1: list[float], over_b0: list[float], *, targets: bool) -> list[Row]:
    both = [(f"{name}: DeltaSweep / B1", over_b1, OVER_B1), (f"{name}: DeltaSweep / B0", over_b0, OVER_B0)]
    return [
        at_least(what, ratios, target) if targets else beside(what, ratios) for what, ratios, target in both if ratios
    ]


def _ours(specs: Sequence[FinetuneSpec]) -> None:
    def failed(trial: str, error: Exception) -> None:
        raise RuntimeError(f"{trial} failed") from error

    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "root")
        attempts = {spec.trial_id: Attempt() for spec in specs}
        attempt_bundle(
            store, specs, PACKAGED, torch.device("cpu"), attempts, RetentionPolicy(10), lambda: False, failed
        )


def _mix(demo: Study, repetitions: int, with_released: int) -> list[Row]:
    """Return the rows for the demo's mix. The launch stops its Ray cluster; B1 gets a separate one."""
    assert demo.grid is not None
    study = demo.model_copy(
        update={"grid": demo.grid.model_copy(update={"blocks": BLOCKS}), "contrasts": (), "bundle": "blocks"}
    )
    specs = [spec for spec in expand(study) if isinstance(spec, FinetuneSpec)]
    one_seed = [spec for spec in specs if spec.seed == specs[0].seed]
    scale = len(specs) / len(one_seed)
    over_b1 = [_clock(lambda: _tuned(specs)) / _clock(lambda: _launched(study)) for _ in range(repetitions)]
    over_b0 = [
        scale * _clock(lambda: _processes(one_seed)) / _clock(lambda: _launched(study)) for _ in range(with_released)
    ]
    name = f"trials per hour, the demo's mix of {len(specs)} with blocks 0, 1, 3, from a cold start"
    return _rows(name, over_b1, over_b0, targets=True)


def _launched(study: Study) -> None:
    with tempfile.TemporaryDirectory() as folder:
        summary = launch(study, open_store(folder), Console(quiet=True))
    if summary.done != summary.planned:
        raise RuntimeError(f"{summary.planned - summary.done} trials are not done")


def _tuned(specs: Sequence[FinetuneSpec]) -> None:
    os.environ.update(tune_program.ENVIRONMENT)
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        tune_program.run(specs)
    finally:
        ray.shutdown()


def _processes(specs: Sequence[FinetuneSpec]) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(released.run_in_a_process, specs))


def _clock(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _processor(work: Callable[[], object]) -> float:
    """Return CPU seconds, including those of child processes that have ended."""
    started = _used()
    work()
    return _used() - started


def _used() -> float:
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


if __name__ == "__main__":
    main()
