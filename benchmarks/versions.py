"""Speed compared with an earlier version of DeltaSweep: commits, reading, a query, and a launch's plan and ids.

    python -m benchmarks.versions CHECKOUT [--repetitions 9]

CHECKOUT contains the earlier version's code (`git worktree add CHECKOUT 7ef9d67` for 0.1.0). Each repetition runs both
versions one after the other, in separate processes with the same packages, and compares CPU seconds, which other
load on the machine hardly affects. Each version works on roots that it wrote itself, with the same synthetic trials.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.rows import Row, at_most, report

HERE = Path(__file__).parents[1]
TARGET = 1.05
TRIALS = 600
"""Number of trials that are committed, read one by one, and compacted. Ids are those of the packaged study `paper`."""
PROGRAM = """
import gc, json, sys, tempfile, time
from pathlib import Path

import analysis
from jobs.results import commit, compact, open_store, read_trials
from tests.{rows} import result_rows
try:
    from jobs.study.expand import expand
    from orchestrator.study.load import load_study
except ModuleNotFoundError:  # before 0.3.0
    from jobs.expansion import expand
    from orchestrator.study_files import load_study

TRIALS = {trials}
found = {{}}


def timed(name, action):
    action()  # warm-up: loads modules and fills caches
    gc.collect()  # so that no garbage of earlier actions is collected while this one is timed
    before = time.process_time()
    action()
    found[name] = time.process_time() - before


rows = [result_rows(f"finetune-x-{{n:02x}}{{n:014x}}", seed=n) for n in range(TRIALS)]
folder = Path(tempfile.mkdtemp())
roots = iter([folder / "warm", folder / "root"])


def commits():
    store = open_store(next(roots))
    for trial in rows:
        commit(store, "finetune", trial)


timed("commit", commits)
store = open_store(folder / "root")
timed("commit of what is there", lambda: [commit(store, "finetune", trial) for trial in rows])
timed("read from the trials' files", lambda: read_trials(store, "finetune"))
compact(store, "finetune")
sql = "SELECT source, avg(test_accuracy) AS mean FROM evaluations GROUP BY ALL ORDER BY ALL"
timed("query of a compacted root", lambda: [analysis.query(folder / "root", sql) for _ in range(10)])


def ids():
    study = load_study("paper")
    study.digest
    for spec in expand(study):
        spec.identity


timed("a launch's plan and identities", ids)
print(json.dumps(found))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--repetitions", type=int, default=9)
    options = parser.parse_args()
    ratios: dict[str, list[float]] = {}
    for number in range(options.repetitions):
        both = (options.checkout.resolve(), HERE)
        seconds = {place: _seconds(place) for place in (both if number % 2 else both[::-1])}
        for name, now in seconds[HERE].items():
            ratios.setdefault(name, []).append(now / seconds[both[0]][name])
    report([_row(name, found) for name, found in ratios.items()])


def _row(name: str, ratios: list[float]) -> Row:
    return at_most(f"{name}: this version / the earlier one", ratios, TARGET)


def _seconds(checkout: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        rows = "results.rows" if (checkout / "tests" / "results" / "rows.py").is_file() else "jobs.support"
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(rows=rows, trials=TRIALS)],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout), "TMPDIR": folder},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
