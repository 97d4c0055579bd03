"""Cost of scheduling: no-op trials through the real ``launch``, compared with Ray Tune alone.

- Overhead per trial: time from the first trial's end to the end of the launch, divided by the number of other trials.
  DeltaSweep's trials durably commit 15 rows each; those of raw Tune (``raw_tune``) write nothing.
- Start: time from the start of the process to the first trial's end, including imports and Ray's start.
- Resume: additional start time on a root where half of the study is done, compared with an empty root.
- Idle share: idle fraction of the slots' time, with trials that sleep 0.45 to 9 s, 1 : 20 as in the paper's mix.

Usage: python -m benchmarks.scheduler [--sizes 400 3000 14400] [--repetitions 3] [--resume 14400] [--no-idle]
Sizes above 1,000 trials are not repeated.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import torch

from benchmarks.rows import Row, at_most, beside, report
from benchmarks.stand_in_trial import StandIn
from benchmarks.stand_ins import KIND, SECONDS_VARIABLE, StandInSpec, duration, environment
from jobs.catalog.catalog import PACKAGED
from jobs.execution.commit import Attempt, rows
from jobs.models.weights import load_source
from jobs.results import LocalStore, compact, schema
from jobs.results.layout import trial_key
from jobs.results.parquet import encode
from tests.another_finetuning import registered, trials_in

STUDY = """
name: stand-ins
stand_in:
  source: [fmnist_natural, fmnist_l2_eps1, fmnist_linf_eps4, fmnist_linf_eps8]
  dataset: [digits]
  blocks: [3]
  images: {images}
  epochs: {epochs}
  seeds: {seeds}
  evaluate_every: 1
  resources: {{gpu: 0, cpu: {cpu}}}
"""
OVERHEAD, FLAT, RESUME_SECONDS, IDLE = 1.2, 1.3, 15.0, 0.10
SLEEPS = [45, 90, 180, 270, 450, 630, 900]
"""Numbers of images of the sleeping trials; their durations are 1 : 20 from the shortest to the longest."""
SECONDS_AN_IMAGE = 0.01


class Timed(NamedTuple):
    """Timing of one run: seconds to the first trial's end, and seconds per trial after that."""

    start: float
    overhead: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[400, 3000, 14_400])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--resume", type=int, default=14_400, help="number of trials of the resumed study; 0 to skip")
    parser.add_argument("--no-idle", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="deltasweep-scheduler-") as folder:
        report(_overheads(Path(folder), given.sizes, given.repetitions))
        if given.resume:
            report([_resume(Path(folder), given.resume)])
        if not given.no_idle:
            report([_idle(Path(folder))])


def _overheads(folder: Path, sizes: list[int], repetitions: int) -> list[Row]:
    found: list[Row] = []
    smallest: float | None = None
    for trials in sizes:
        study = _study(folder, trials)
        pairs = [
            (_launched(study, folder / f"root-{trials}-{again}", trials), _raw(folder, trials))
            for again in range(repetitions if trials <= 1000 else 1)
        ]
        for ours, raw in pairs:
            print(
                f"{trials} trials: first after {ours.start:.1f} s (raw {raw.start:.1f}), then "
                f"{ours.overhead * 1e3:.1f} ms each (raw {raw.overhead * 1e3:.1f}); load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
        overheads = [ours.overhead for ours, _ in pairs]
        name = f"scheduler, {trials} no-op trials"
        found.append(
            at_most(f"{name}: overhead per trial / raw Tune", [o.overhead / r.overhead for o, r in pairs], OVERHEAD)
        )
        found.append(beside(f"{name}: time to the first / raw Tune", [o.start / r.start for o, r in pairs]))
        if smallest is not None:
            flat = [each / smallest for each in overheads]
            found.append(at_most(f"{name}: overhead per trial / that of {sizes[0]}", flat, FLAT))
        smallest = smallest or sorted(overheads)[len(overheads) // 2]
    return found


def _resume(folder: Path, trials: int) -> Row:
    """Return a row in seconds instead of a ratio, for a compacted root as an interrupted launch leaves it."""
    study = _study(folder, trials)
    half = folder / "half"
    _make_half(study, half)
    empty = _launched(study, folder / "empty", trials, "first").start
    resumed = _launched(study, half, trials, "first").start
    print(f"first trial of {trials}: empty root {empty:.1f} s, half done {resumed:.1f} s")
    return at_most(
        f"resume of {trials} trials, half done: seconds beyond an empty start", [resumed - empty], RESUME_SECONDS
    )


def _idle(folder: Path) -> Row:
    """Return the idle share of four slots on any machine, since sleeping needs no CPU."""
    cpu = (os.cpu_count() or 1) / 4
    study = folder / "sleeping.yaml"
    study.write_text(STUDY.format(images=SLEEPS, epochs=1, seeds=3, cpu=cpu))
    asleep = sum(duration(spec, SECONDS_AN_IMAGE) for spec in trials_in(StandInSpec, study))
    out, root = folder / "out", folder / "sleeping"
    _run("benchmarks.launched", str(study), str(root), str(out), out=out, environment=environment(SECONDS_AN_IMAGE))
    times = json.loads(out.read_text())
    longest = SECONDS_AN_IMAGE * max(SLEEPS)
    first_started = times["first"] - longest  # longest first
    return at_most("slots idle, sleeping trials 1 : 20", [1 - asleep / (4 * (times["ended"] - first_started))], IDLE)


def _study(folder: Path, trials: int) -> Path:
    path = folder / f"{trials}.yaml"
    path.write_text(STUDY.format(images=[50], epochs=15, seeds=trials // 4, cpu=1))
    return path


def _launched(study: Path, root: Path, trials: int, *options: str) -> Timed:
    out = root.with_suffix(".json")
    return _timed("benchmarks.launched", str(study), str(root), str(out), *options, out=out, trials=trials)


def _raw(folder: Path, trials: int) -> Timed:
    out = folder / "raw.json"
    return _timed("benchmarks.raw_tune", str(trials), str(out), out=out, trials=trials)


def _timed(*command: str, out: Path, trials: int) -> Timed:
    started = time.time()
    _run(*command, out=out, environment=environment())
    times = json.loads(out.read_text())
    return Timed(times["first"] - started, (times["ended"] - times["first"]) / (trials - 1))


def _run(*command: str, out: Path, environment: dict[str, str]) -> None:
    out.unlink(missing_ok=True)
    subprocess.run([sys.executable, "-m", *command], check=True, env=environment)


def _make_half(study: Path, root: Path) -> None:
    """Write results for every other trial of the study, with synthetic numbers and without fsync."""
    os.environ[SECONDS_VARIABLE] = "0"
    with registered(KIND):
        for spec in trials_in(StandInSpec, study)[::2]:
            trial = StandIn(spec, load_source(PACKAGED.source(spec.source)), PACKAGED)
            trial.advance()
            target = root / trial_key(spec.kind, spec.trial_id)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(encode(pa.Table.from_pylist(rows(trial, Attempt()), schema=schema(spec.kind))))
        compact(LocalStore(root), KIND.name)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
