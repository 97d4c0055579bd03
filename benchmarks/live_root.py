"""A results root as a launch of the packaged study `paper` leaves it halfway, and a launch that continues in it.

The numbers are made up. The launch writes what a real one writes (results, checkpoints, failures, heartbeats,
compactions) without training anything.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.numpy import save

from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.results import Failure, FailureKind, LocalStore, commit, record_failure, record_study, schema, write_launch
from jobs.results.index import Entry, render
from jobs.results.launches import Launch, timestamp
from jobs.results.layout import CURRENT, checkpoint_key, compact_key, trial_key
from jobs.results.parquet import encode
from jobs.specs.canonical import canonical_json
from jobs.specs.trial import recipe_digest
from jobs.study.expand import expand
from jobs.study.model import Study
from orchestrator.launching.heartbeat import new_launch
from orchestrator.study.load import load_study

_GAINS = {"natural": 0.0, "l2_eps3": 3.0, "linf_eps4": 2.0, "linf_eps8": 1.0}
_CONSTRAINTS = {"natural": "none", "l2_eps3": "l2"}
_EASE = {"cifar100": 0.35, "cifar10": 0.6, "svhn": 0.5, "fmnist": 0.75, "kmnist": 0.7, "mnist": 0.9}
_GPU = "NVIDIA A10G, sm_86 (probe 1: {probe}), AMD EPYC (AuthenticAMD family 23 model 49), avx2 (probe 1: 8be921f1e88d)"
_KINDS = (_GPU.format(probe="3f0c11d2aa07"), _GPU.format(probe="3f0c11d2aa07"), _GPU.format(probe="77e0b9ad1c52"))
_HOSTS = tuple(f"worker-{number}" for number in range(8))


def paper() -> tuple[Study, list[FinetuneSpec]]:
    """Return the study, and its trials in a fixed random order, bundles together as they would finish."""
    study = load_study("paper")
    specs = [spec for spec in expand(study) if isinstance(spec, FinetuneSpec)]
    place = {spec.trial_id: _draw(spec.dataset, spec.images, spec.source, spec.seed) for spec in specs}
    size = {spec.trial_id: spec.images if spec.images > 0 else 50_000 for spec in specs}
    return study, sorted(specs, key=lambda spec: (size[spec.trial_id] * place[spec.trial_id], place[spec.trial_id]))


def _draw(*words: object) -> float:
    return int.from_bytes(hashlib.sha256(repr(words).encode()).digest()[:6], "big") / 2**48


def rows(spec: FinetuneSpec, number: int, finished: datetime, launch: str) -> list[dict[str, Any]]:
    """Return the rows of a trial's result, of plausible accuracies."""
    images = spec.images if spec.images > 0 else 50_000
    ceiling = 100 * (1 - (1 - _EASE[spec.dataset]) * (100 / images) ** 0.35)
    low = 3 * (1 - spec.blocks / 12) * (0.5 + np.log10(images) / 4)
    end = min(ceiling + _GAINS[spec.source] * low / 2 - low + 1.5 * (_draw(spec.trial_id) - 0.5), 99.8)
    subset = hashlib.sha256(f"{spec.dataset} {spec.images} {spec.seed}".encode()).hexdigest()
    shared = {
        **dict.fromkeys(schema("finetune").names),
        **spec.choices,
        "trial_id": spec.trial_id,
        "recipe": recipe_digest(spec.recipe),
        "recipe_json": canonical_json(spec.recipe.model_dump(mode="json")),
        "numerics": spec.numerics_version,
        "origin": "run",
        "constraint": _CONSTRAINTS.get(spec.source, "linf"),
        "epsilon": 0.0 if spec.source == "natural" else 3.0,
        "images_used": images,
        "subset_sha256": subset,
        "host": _HOSTS[number % len(_HOSTS)],
        "device_kind": _KINDS[number % len(_HOSTS) % len(_KINDS)],
        "attempt": 1,
        "launch": launch,
        "finished_at": finished.isoformat(timespec="seconds"),
        "code_version": "0.3.0",
        "packages": '{"torch": "2.12.0", "torchvision": "0.27.0"}',
    }
    return [
        {
            **shared,
            "epoch": epoch,
            "test_accuracy": end * (1 - 0.6 * np.exp(-epoch / 12)),
            "test_loss": 2 * (1 - end / 100),
            "train_accuracy": min(100.0, end * (1.1 - 0.6 * np.exp(-epoch / 8))),
            "train_loss": 1.5 * (1 - end / 100),
            "seconds": epoch * (2.0 + images / 800),
        }
        for epoch in sorted(spec.evaluated_epochs)
    ]


def make_root(directory: Path, trials: int, running: int = 48, failing: int = 5) -> "Continued":
    """Write a root with this many finished trials, all of them compacted, and a launch that runs some more.

    The finished trials' own files are empty: readers list them, but read none that the index covers.
    """
    study, specs = paper()
    store = LocalStore(directory)
    now = datetime.now(UTC)
    launch = new_launch(study.name, study.digest)
    done = specs[:trials]
    count = len(done)
    every = (
        row
        for number, spec in enumerate(done)
        for row in rows(spec, number, now - timedelta(seconds=2 * (count - number)), launch.launch)
    )
    table = pa.Table.from_pylist(list(every), schema=schema("finetune")).sort_by(
        [("trial_id", "ascending"), ("epoch", "ascending")]
    )
    data = encode(table)
    key = compact_key(f"{now:%Y%m%dT%H%M%SZ}-00000000", "finetune")
    store.create(key, data)
    entry = Entry(key, hashlib.sha256(data).hexdigest(), len(table), count)
    store.swap(CURRENT, None, render({"finetune": entry}))
    for spec in done:
        path = directory / trial_key("finetune", spec.trial_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    record_study(store, study.name, study.digest, study.resolved())
    started = (now - timedelta(seconds=2 * count)).isoformat(timespec="seconds")
    return Continued(store, launch._replace(started_at=started), specs[trials:], running, failing)


class Continued:
    """A launch that finishes one trial with each step."""

    def __init__(
        self, store: LocalStore, launch: Launch, waiting: Sequence[FinetuneSpec], running: int, failing: int
    ) -> None:
        self.store, self.launch = store, launch
        self._waiting: Iterator[FinetuneSpec] = iter(waiting)
        self._number = 0
        self.running = [spec for _, spec in zip(range(running), self._waiting, strict=False)]
        for number, spec in enumerate(self.running):
            if number % 3:
                self._checkpoint(spec, number)
        for spec in self.running[:failing]:
            self.fail(spec, "CUDA error: an illegal memory access was encountered")
        self.beat()

    def beat(self) -> None:
        """Write the heartbeat."""
        in_flight = tuple(spec.trial_id for spec in self.running)
        write_launch(self.store, self.launch._replace(heartbeat_at=timestamp(), in_flight=in_flight))

    def step(self) -> str:
        """Finish the trial that has run the longest, start another one, and save a checkpoint of a third."""
        spec = self.running.pop(0)
        self._number += 1
        commit(self.store, "finetune", rows(spec, self._number, datetime.now(UTC), self.launch.launch))
        self.running += [next(self._waiting)]
        self._checkpoint(self.running[self._number % len(self.running)], self._number)
        return spec.trial_id

    def fail(self, spec: FinetuneSpec, reason: str, kind: FailureKind = FailureKind.INFRASTRUCTURE) -> None:
        """Record a failed attempt."""
        failure = Failure(spec.trial_id, 1, kind, "RuntimeError", reason, _HOSTS[0], self.launch.launch, timestamp())
        record_failure(self.store, failure, f"Traceback (most recent call last):\nRuntimeError: {reason}\n")

    def _checkpoint(self, spec: FinetuneSpec, number: int) -> None:
        """Save a checkpoint with the rows of the first epochs, and few tensors."""
        numbers = ("epoch", "test_accuracy", "test_loss", "train_accuracy", "train_loss", "seconds")
        found = [
            {name: row[name] for name in numbers} for row in rows(spec, number, datetime.now(UTC), self.launch.launch)
        ]
        evaluations = found[: 1 + number % max(len(found) - 1, 1)]
        epoch = evaluations[-1]["epoch"] + 1
        state = {
            "trial_id": spec.trial_id,
            "epoch": epoch,
            "batch": 0,
            "seconds": evaluations[-1]["seconds"],
            "evaluations": evaluations,
            "history": [[_KINDS[number % len(_HOSTS) % len(_KINDS)]], ['{"torch": "2.12.0"}']],
            "host": _HOSTS[number % len(_HOSTS)],
        }
        data = save({"fc.weight": np.zeros((10, 16), np.float32)}, metadata={"state": json.dumps(state)})
        digest = hashlib.sha256(data).hexdigest()[:16]
        self.store.replace(checkpoint_key(spec.trial_id, epoch, 0, digest), data, durable=False)
