"""Results roots for tests of the live page: a small study, what launches of it leave behind, and clients."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save
from starlette.testclient import TestClient

from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.results import (
    Failure,
    FailureKind,
    Launch,
    LocalStore,
    Store,
    commit,
    record_failure,
    record_study,
    schema,
    write_launch,
)
from jobs.results.launches import timestamp
from jobs.results.layout import checkpoint_key
from jobs.specs.canonical import canonical_json
from jobs.specs.trial import recipe_digest
from jobs.study.expand import fine_tuned
from jobs.study.model import Study
from orchestrator.live.app import make_app
from orchestrator.live.watch import Watch
from orchestrator.planning.gpus import gpu
from orchestrator.study.load import parse_study

STUDY = """\
name: small
description: A study <b>for</b> a test
grid: {source: [fmnist_natural, fmnist_l2_eps1], dataset: [digits], blocks: [1, 3]}
schedule:
  - {images: [50, 100], epochs: 5, seeds: 3, evaluate_every: 2}
contrasts:
  - {source: fmnist_l2_eps1, baseline: fmnist_natural, blocks: [3]}
"""
KIND = "AMD EPYC, avx2 (probe 1: 0123456789ab)"
OTHER_KIND = "NVIDIA A10G, sm_86 (probe 1: ba9876543210), AMD EPYC, avx2 (probe 1: 0123456789ab)"
TOKEN = "a-token"
HOST = "127.0.0.1:8737"
TRAP = "<img src=x onerror=ran=1>"
"""Text of a stranger that must not become markup."""


def study(text: str = STUDY) -> Study:
    return parse_study(text, "study.yaml")


class Sweep:
    """A launch of a study that writes what a test wants."""

    def __init__(self, store: Store, text: str = STUDY) -> None:
        self.store = store
        self.study = study(text)
        self.specs = fine_tuned(self.study)
        self.launch = Launch(
            launch="20260101T000000Z-00000000",
            study=self.study.name,
            digest=self.study.digest,
            user="ada",
            host="head",
            started_at=timestamp(),
            code_version="0.3.0",
            packages={},
            heartbeat_at=timestamp(),
        )
        record_study(store, self.study.name, self.study.digest, self.study.resolved())
        self.beat()

    def beat(self, *running: FinetuneSpec, **changes: Any) -> None:
        """Write the heartbeat, with the trials in flight."""
        in_flight = tuple(spec.trial_id for spec in running)
        write_launch(
            self.store, self.launch._replace(**{"heartbeat_at": timestamp(), "in_flight": in_flight, **changes})
        )

    def commit(self, *specs: FinetuneSpec, **columns: object) -> None:
        """Commit results."""
        for spec in specs:
            commit(self.store, "finetune", rows(spec, launch=self.launch.launch, **columns))

    def fail(
        self, spec: FinetuneSpec, reason: str = "it broke", log: str = "a log\n", attempt: int = 1, at: str = ""
    ) -> None:
        """Record an attempt that failed now, or at another time."""
        failure = Failure(
            spec.trial_id, attempt, FailureKind.ERROR, "ValueError", reason, "worker", "", at or timestamp()
        )
        record_failure(self.store, failure, log)

    def checkpoint(self, spec: FinetuneSpec, **changes: object) -> str:
        """Save a checkpoint after the first evaluation; return its key."""
        state: dict[str, object] = {
            "trial_id": spec.trial_id,
            "epoch": 2,
            "batch": 1,
            "seconds": 2.5,
            "evaluations": [{"epoch": 1, "test_accuracy": 31.25, "train_accuracy": 20.0}],
            "history": [[KIND], ["{}"]],
            "host": "worker-7",
            **changes,
        }
        return put_checkpoint(self.store, spec.trial_id, state)


class Counting(LocalStore):
    """Counts how often each object is read, and refuses to write."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.read_keys: Counter[str] = Counter()

    def read(self, key: str) -> bytes:
        self.read_keys[key] += 1
        return super().read(key)

    def read_within(self, key: str, most: int) -> bytes:
        self.read_keys[key] += 1
        return super().read_within(key, most)

    def create(self, key: str, data: bytes) -> bool:
        raise AssertionError(f"the live page writes {key}")

    def replace(self, key: str, data: bytes, *, durable: bool = True) -> None:
        raise AssertionError(f"the live page writes {key}")

    def swap(self, key: str, expected: bytes | None, data: bytes) -> bool:
        raise AssertionError(f"the live page writes {key}")

    def delete(self, key: str) -> None:
        raise AssertionError(f"the live page deletes {key}")


def put_checkpoint(store: Store, trial: str, state: Mapping[str, object]) -> str:
    data = save({"fc.weight": np.zeros((4, 4), np.float32)}, metadata={"state": json.dumps(state)})
    key = checkpoint_key(trial, 2, 1, hashlib.sha256(data).hexdigest()[:16])
    store.replace(key, data)
    return key


def rows(spec: FinetuneSpec, **columns: object) -> list[dict[str, Any]]:
    """Return the rows of a trial's result; the robust source gains two points and more with later seeds."""
    robust = spec.source != "fmnist_natural"
    end = 60.0 + spec.blocks + (2.0 + (spec.seed // 100_000) % 10 / 4 if robust else 0.0)
    shared = {
        **dict.fromkeys(schema("finetune").names),
        **spec.choices,
        "trial_id": spec.trial_id,
        "recipe": recipe_digest(spec.recipe),
        "recipe_json": canonical_json(spec.recipe.model_dump(mode="json")),
        "numerics": spec.numerics_version,
        "origin": "run",
        "constraint": "l2" if robust else "none",
        "epsilon": 1.0 if robust else 0.0,
        "images_used": spec.images,
        "subset_sha256": hashlib.sha256(f"{spec.images} {spec.seed}".encode()).hexdigest(),
        "device_kind": KIND,
        "host": "worker-1",
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "packages": '{"torch": "2.12.0"}',
        "code_version": "0.3.0",
        "attempt": 1,
        **columns,
    }
    return [
        {**shared, "epoch": epoch, "test_accuracy": end - 10 / epoch, "train_accuracy": end, "seconds": 10.0 * epoch}
        for epoch in sorted(spec.evaluated_epochs)
    ]


def client(watch: Watch, *, authorized: bool = True) -> TestClient:
    """Return a client of the live page, which the caller's watch has looked at."""
    app = make_app(watch, TOKEN, {"localhost"})
    made = TestClient(app, base_url=f"http://{HOST}", raise_server_exceptions=True)
    if authorized:
        assert made.get("/", params={"token": TOKEN}).status_code == 200
    return made


def watched(store: Store) -> Watch:
    """Return a watch that has looked once and looks again when a page is asked for."""
    made = Watch(store, gpu())
    made.start()
    return made


def listing(directory: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of every file, and every folder, of a root."""
    return {
        path.relative_to(directory).as_posix(): ((stat := path.stat()).st_size, stat.st_mtime_ns)
        for path in sorted(directory.rglob("*"))
    }


def local(directory: Path) -> LocalStore:
    return LocalStore(directory)
