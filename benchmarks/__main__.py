"""Run the benchmarks one after another (``make bench`` and ``make bench-quick``).

Each runs in a separate process, prints its rows and keeps them in the processor's file in ``benchmarks/results``; those
of ``--quick`` are kept in ``build/bench-quick.json``. A part replaces its own rows. If one fails, its other rows stay,
the others still run, and the command fails at the end. ``benchmarks.report`` and ``benchmarks.versions`` are not
included, since they need a checkout of an earlier version; nor is ``benchmarks.gpu``, which needs a GPU.

Usage: python -m benchmarks [--quick]
"""

import argparse
import os
import subprocess
import sys
import time

from benchmarks.rows import PART, RESULTS, now, remove_older, results_file

WHOLE = [
    "benchmarks.scheduler",
    "benchmarks.bundles",
    "benchmarks.precision",
    "benchmarks.activations",
    "benchmarks.throughput",
    "benchmarks.execution",
    "benchmarks.augmentation",
    "benchmarks.checkpoints",
    "benchmarks.query",
    "benchmarks.page",
    "benchmarks.live",
    "benchmarks.influence",
]
QUICK = [
    "benchmarks.scheduler --sizes 100 --repetitions 1 --resume 0 --no-idle",
    "benchmarks.throughput --repetitions 3 --released 1 --epochs 6 --mix 0",
    "benchmarks.execution --repetitions 5 --architectures resnet35-w8 --no-compile",
    "benchmarks.augmentation 3",
    "benchmarks.checkpoints 2",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    commands = QUICK if quick else WHOLE
    if quick:
        os.environ[RESULTS] = "build/bench-quick.json"
    failed = [command for command in commands if not _succeeds(command)]
    print(f"\nrows: {results_file()}")
    if failed:
        sys.exit(f"failed: {'; '.join(failed)}")


def _succeeds(command: str) -> bool:
    print(f"\n{command}; load {os.getloadavg()[0]:.1f}", flush=True)
    began, started = now(), time.monotonic()
    part, *options = command.split()
    environment = {**os.environ, PART: part}
    code = subprocess.run([sys.executable, "-m", part, *options], env=environment, check=False).returncode
    print(f"{time.monotonic() - started:.0f} s", flush=True)
    if code == 0:
        remove_older(part, began)
    return code == 0


if __name__ == "__main__":
    main()
