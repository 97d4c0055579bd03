"""Duration of `deltasweep report` for a root like the demo's, compared with an earlier version.

    python -m benchmarks.report CHECKOUT [--repetitions 5]

CHECKOUT contains the earlier version's code (`git worktree add CHECKOUT 0a8bce1` for the target of one third). The root
contains the packaged study `demo` and its 60 trials with synthetic accuracies, written by this version. Each repetition
runs both versions one after the other as whole processes and compares user plus system CPU seconds. The first run fills
the caches in `$DELTASWEEP_HOME` and those of compiled modules, as in any installation, and is reported separately.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path

import numpy as np

from benchmarks.query import trials
from benchmarks.rows import at_most, beside, report
from jobs.catalog.catalog import PACKAGED
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.results import commit, open_store, record_study
from jobs.specs.trial import recipe_digest
from jobs.study.expand import expand
from orchestrator.study.load import load_study

HERE = Path(__file__).parents[1]
TARGET = 1 / 3
PROGRAM = "from orchestrator.entry import main; main()"
GAINS = {"fmnist_natural": 0.0, "fmnist_l2_eps1": 2.5, "fmnist_linf_eps4": 1.5, "fmnist_linf_eps8": 0.5}
"""Advantage of each source over the natural one, in percentage points."""


def make_root(directory: Path) -> None:
    """Write the demo's root with synthetic numbers."""
    store, study, rng = open_store(directory), load_study("demo"), np.random.default_rng(0)
    record_study(store, study.name, study.digest, study.resolved())
    filled = trials(1).to_pylist()[0]
    for spec in expand(study):
        assert isinstance(spec, FinetuneSpec)
        card = PACKAGED.source(spec.source)
        end = 40 + 6 * np.log2(spec.images / 25) + GAINS[spec.source] + rng.normal()
        shared = {
            **filled,
            **{name: getattr(spec, name) for name in ("trial_id", "source", "dataset", "blocks", "images", "seed")},
            **{name: getattr(spec, name) for name in ("epochs", "evaluate_every")},
            "recipe": recipe_digest(spec.recipe),
            "numerics": spec.numerics_version,
            "constraint": str(card.constraint),
            "epsilon": card.epsilon,
            "images_used": spec.images,
            "subset_sha256": f"{1000 * spec.images + spec.seed:064x}",
        }
        rows = [{**shared, "epoch": one, "test_accuracy": float(end - 20 / one)} for one in spec.evaluated_epochs]
        commit(store, "finetune", rows)


def seconds(checkout: Path, root: Path, home: Path, out: Path) -> float:
    """Return the user plus system CPU seconds of one `deltasweep report`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", PROGRAM, "report", "--results", str(root), "--out", str(out)],
        cwd=checkout,
        env={
            **os.environ,
            "PYTHONPATH": str(checkout),
            "PYTHONDONTWRITEBYTECODE": "",
            "DELTASWEEP_HOME": str(home),
        },
        check=True,
        stdout=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    then = options.checkout.resolve()
    with tempfile.TemporaryDirectory() as folder:
        root, home, outs = Path(folder) / "root", Path(folder) / "home", count()
        make_root(root)
        first = [seconds(place, root, home, Path(folder) / f"{next(outs)}") for place in (then, HERE)]
        ratios = []
        for number in range(options.repetitions):
            both = (then, HERE) if number % 2 else (HERE, then)
            taken = {place: seconds(place, root, home, Path(folder) / f"{next(outs)}") for place in both}
            print(f"earlier version {taken[then]:.2f} s, this version {taken[HERE]:.2f} s", flush=True)
            ratios.append(taken[HERE] / taken[then])
    name = "report of the demo's root: this version / the earlier one"
    report([at_most(name, ratios, TARGET), beside(f"{name}, first run on a machine", [first[1] / first[0]])])


if __name__ == "__main__":
    main()
