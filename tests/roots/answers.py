"""Print the answers of the code that is first on the path about a results root as JSON.

tests/roots keeps a release's answers.

    PYTHONPATH=CHECKOUT python tests/roots/answers.py ROOT > ROOT.expected.json

It runs with any version from 0.1.0 on. Nothing is written into the root; its trial in progress is resumed in a copy.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from typer.testing import CliRunner

from jobs.catalog.catalog import PACKAGED
from jobs.execution.attempt import attempt_trial, open_trial
from jobs.execution.commit import Attempt
from jobs.execution.retention import RetentionPolicy
from jobs.results import (
    Role,
    Store,
    done,
    kinds,
    next_attempt,
    open_store,
    read_failures,
    read_trials,
    recorded_studies,
    schema,
)
from jobs.results.schema import numbering, view
from jobs.specs.trial import TrialSpec, recipe_digest
from jobs.study.expand import expand
from jobs.verification.verify import verify
from orchestrator.cli.main import app
from orchestrator.study.history import planned_trials
from orchestrator.study.load import parse_study

TRIALS, ROWS = 2, 3
"""Number of trials of each kind, and of rows of each trial, in the output."""


def answers(root: Path, asked: Sequence[str] = ()) -> dict[str, Any]:
    """Return all answers but ``resumed``.

    Args:
        asked: SQL queries; by default about all columns of this version.
    """
    store = open_store(root)
    return {
        "files": digest_of(root),
        "studies": {
            record.name: _study(root, record.name, record.digest, record.text) for record in recorded_studies(store)
        },
        "status": json.loads(command(root, "status", "--json")[1]),
        "deltas": {
            " ".join(of): json.loads(command(root, "deltas", *of, "--format", "json")[1])
            for of in (("--baseline", "fmnist_natural"), ("--study", "first"))
        },
        "queries": [_query(root, sql) for sql in asked or _questions(store)],
        "verify": _verified(root, store),
        "failures": [[one.trial_id, one.attempt, one.kind.value, one.signature] for one in read_failures(store)],
        "logs": {
            trial: command(root, "logs", trial)[1] for trial in {one.trial_id: None for one in read_failures(store)}
        },
        "checkpoints": [_checkpoint(store, key) for key in sorted(store.keys("checkpoints"))],
    }


def resumed(root: Path) -> dict[str, Any]:
    """Resume the trial in progress in this root, and return its outcome."""
    store = open_store(root)
    (key,) = store.keys("checkpoints")
    trial_id = key.split("/")[1]
    specs = {
        spec.trial_id: spec for record in recorded_studies(store) for spec in expand(parse_study(record.text, key))
    }
    trial = open_trial(store, specs[trial_id], PACKAGED, torch.device("cpu"))
    made: list[int] = []
    ended = attempt_trial(
        store,
        trial,
        Attempt(next_attempt(store, trial_id)),
        RetentionPolicy(checkpoint_every=1),
        on_evaluation=lambda row: made.append(row.epoch),
    )
    rows = [row for row in read_trials(store, trial.spec.kind).to_pylist() if row["trial_id"] == trial_id]
    return {
        "trial_id": trial_id,
        "ending": ended.status.value,
        "notes": ended.notes,
        "evaluated": made,
        "device_kind": rows[0]["device_kind"],
        "packages": rows[0]["packages"],
        "rows": [{name: row[name] for name in _telling(trial.spec.kind)} for row in rows],
        "checkpoints": sorted(store.keys("checkpoints")),
    }


def digest_of(root: Path) -> str:
    """Return a digest over the names and contents of all files of a root."""
    found = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        found.update(f"{path.relative_to(root).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


def command(root: Path, verb: str, *options: str) -> tuple[int, str]:
    """Return the exit code and output of a verb about the root, in which the root's path is replaced by ROOT."""
    result = CliRunner().invoke(app, [verb, *options, "--results", str(root)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout.replace(str(root), "ROOT")


def _study(root: Path, name: str, digest: str, text: str) -> dict[str, Any]:
    file = root / "studies" / name / f"{digest}.yaml"
    study = parse_study(text, str(file))
    return {
        "recorded": digest,
        "digest": study.digest,
        "plan": json.loads(command(root, "plan", str(file), "--json")[1]),
        "trials": {spec.trial_id: _recipes(spec) for spec in expand(study)},
    }


def _recipes(spec: TrialSpec) -> list[str]:
    """Return the digest of a trial's recipe, and of that of the network that it examines."""
    tuned: Any = getattr(spec, "network", None)
    return [recipe_digest(one.recipe) for one in (spec, tuned) if hasattr(one, "recipe")]


def _questions(store: Store) -> list[str]:
    """Return SQL for each view: its size, and all columns that must not change, for a few rows."""
    found = ["SELECT trial_id, attempt, kind, error, reason, host FROM failures ORDER BY trial_id, attempt"]
    for kind in kinds():
        number = numbering(kind)
        columns = ", ".join(f"md5({c}) AS {c}" if c == "image" else f'"{c}"' for c in _telling(kind))
        chosen = ", ".join(f"'{trial}'" for trial in sorted(done(store, kind))[:TRIALS])
        found += [
            f"SELECT trial_id, count(*) AS n, min({number}) AS first, max({number}) AS last FROM {view(kind)} "
            "GROUP BY trial_id ORDER BY trial_id",
            f"SELECT {columns} FROM {view(kind)} WHERE trial_id IN ({chosen}) "
            f"QUALIFY row_number() OVER (PARTITION BY trial_id ORDER BY {number}) <= {ROWS} "
            f"ORDER BY trial_id, {number}",
        ]
    return [*found, "SELECT trial_id, epoch, test_accuracy, device_kind FROM trials ORDER BY trial_id"]


def _telling(kind: str) -> list[str]:
    """Return the columns that depend only on a trial's spec and on running it."""
    measured = Role.MEASURED.value.encode()
    return [field.name for field in schema(kind) if field.metadata[b"role"] != measured]


def _query(root: Path, sql: str) -> dict[str, Any]:
    return {"sql": sql, "rows": json.loads(command(root, "query", sql, "--format", "json")[1])}


def _verified(root: Path, store: Store) -> dict[str, Any]:
    code, said = command(root, "verify")
    findings = verify(store, planned_trials(store))
    return {"code": code, "said": said.splitlines(), "found": [[one.problem.value, one.key] for one in findings]}


def _checkpoint(store: Store, key: str) -> dict[str, Any]:
    data = store.read(key)
    state = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["state"])
    return {"key": key, **{name: state.get(name) for name in ("trial_id", "epoch", "batch", "evaluations", "history")}}


def main() -> None:
    root = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DELTASWEEP_HOME"] = f"{folder}/home"
        copy = Path(folder) / "root"
        shutil.copytree(root, copy)
        torch.set_num_threads(1)
        found = {**answers(root), "resumed": resumed(copy)}
    assert digest_of(root) == found["files"]
    assert not found["status"]["live_launches"], "the killed launch still looks alive: ask again in two minutes"
    json.dump(found, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
