"""Small results roots made by hand."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.results import LocalStore, commit, schema
from jobs.specs.recipes import Recipe
from jobs.specs.trial import recipe_digest

Values = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Row = dict[str, Any]
"""Values by column, of the column's type."""
Rows = list[Row]


class Build:
    """Makes evaluations that look like those of real trials."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def trial(self, source: str, seed: int, accuracies: Mapping[int, float] | float, **columns: object) -> Rows:
        """Return one trial; ``accuracies`` are by epoch, or the accuracy of its only epoch."""
        by_epoch = accuracies if isinstance(accuracies, Mapping) else {1: accuracies}
        images = int(str(columns.get("images", 100)))
        shared: Row = {
            **dict.fromkeys(schema("finetune").names),
            "source": source,
            "constraint": "none" if source == "natural" else "l2",
            "epsilon": 0.0 if source == "natural" else 3.0,
            "dataset": "digits",
            "blocks": 3,
            "images": images,
            "images_used": 1000 if images == -1 else images,
            "seed": seed,
            "epochs": max(by_epoch),
            "recipe": recipe_digest(Recipe()),
            "numerics": 1,
            "origin": "run",
            "subset_sha256": hashlib.sha256(f"{seed} {images}".encode()).hexdigest(),
            "device_kind": "cpu",
            **columns,
        }
        told = ("source", "dataset", "blocks", "images", "seed", "epochs", "recipe", "numerics", "origin")
        words = "-".join(str(shared[key]) for key in told)
        shared.setdefault("trial_id", None)
        if shared["trial_id"] is None and shared["evaluate_every"] is not None:  # a trial that a study can plan
            keys = ("source", "dataset", "blocks", "images", "seed", "epochs", "evaluate_every")
            shared["trial_id"] = FinetuneSpec(recipe=Recipe(), **{key: shared[key] for key in keys}).trial_id
        if shared["trial_id"] is None:
            shared["trial_id"] = f"finetune-{source}-{hashlib.sha256(words.encode()).hexdigest()[:16]}"
        return [{**shared, "epoch": epoch, "test_accuracy": value} for epoch, value in by_epoch.items()]

    def arms(
        self, natural: Iterable[float], robust: Iterable[float], source: str = "robust", **columns: object
    ) -> list[Rows]:
        """Return trials of two sources, one per value, with seeds 0, 1, 2, ..."""
        return [
            self.trial(name, seed, value, **columns)
            for name, values in (("natural", natural), (source, robust))
            for seed, value in enumerate(values)
        ]

    def table(self, trials: Iterable[Rows]) -> pa.Table:
        return pa.Table.from_pylist([row for rows in trials for row in rows], schema=schema("finetune"))

    def root(self, trials: Iterable[Rows], name: str = "root") -> Path:
        """Return a results root with the trials committed in the given order."""
        directory = self.folder / name
        directory.mkdir(exist_ok=True)
        for rows in trials:
            commit(LocalStore(directory), "finetune", rows)
        return directory

    def pretrained(self, name: str = "root") -> Path:
        """Return a results root with one finished trial of the kind pretrain, of two epochs."""
        nothing = {"string": "x", "int64": 1, "double": 1.0}
        fields = {field.name: None if field.nullable else nothing[str(field.type)] for field in schema("pretrain")}
        shared = {**fields, "trial_id": "pretrain-fmnist-small-l2-s0-0123456789abcdef", "epochs": 2}
        directory = self.folder / name
        directory.mkdir(exist_ok=True)
        commit(LocalStore(directory), "pretrain", [{**shared, "epoch": epoch} for epoch in (1, 2)])
        return directory
