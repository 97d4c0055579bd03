"""Parts of trials that can be run in a process of another device kind."""

import os
from itertools import count
from pathlib import Path
from typing import NamedTuple

import torch

from jobs.catalog.catalog import PACKAGED
from jobs.execution.bundles import attempt_bundle
from jobs.execution.commit import Attempt
from jobs.execution.device_kind import device_kind
from jobs.execution.retention import RetentionPolicy
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.results import next_attempt, open_store
from jobs.specs.optimizers import Execution
from jobs.specs.recipes import Recipe
from jobs.specs.section import OnOtherDevice
from tests.golden.cases import CASES, CPU, Values


def spec(blocks: int) -> FinetuneSpec:
    """Two epochs of three batches."""
    values = {"source": "fmnist_natural", "dataset": "digits", "images": 24, "seed": 7, "epochs": 2}
    recipe = Recipe(batch_size=8, learning_rate=0.01)
    return FinetuneSpec.model_validate({**values, "blocks": blocks, "evaluate_every": 1, "recipe": recipe})


class Part(NamedTuple):
    """The outcome of a part of trials."""

    kind: str
    ends: list[str]
    notes: list[str]


def run_part(
    root: Path, home: Path, blocks: tuple[int, ...], batches: int = 0, rule: OnOtherDevice = "continue"
) -> Part:
    """Run or resume trials, alone or as a bundle.

    Args:
        home: Folder where this machine keeps files.
        blocks: One depth is a trial alone, several are a bundle.
        batches: Number of batches before stopping; 0 runs to the end.
    """
    os.environ["DELTASWEEP_HOME"] = str(home)
    torch.set_num_threads(1)
    store, specs, asked = open_store(root), [spec(depth) for depth in blocks], count()
    failures: dict[str, str] = {}
    ended = attempt_bundle(
        store,
        specs,
        PACKAGED,
        CPU,
        {one.trial_id: Attempt(next_attempt(store, one.trial_id)) for one in specs},
        RetentionPolicy(checkpoint_every=10, on_other_device=rule),
        lambda: next(asked) == batches > 0,
        lambda trial, error: failures.update({trial: repr(error)}),
    )
    assert not failures, failures
    notes = [note for one in ended.values() for note in one.notes]
    return Part(device_kind(CPU, specs[0].recipe), [str(one.status) for one in ended.values()], notes)


def computed() -> tuple[str, dict[str, Values]]:
    """Return this process's device kind, and golden numbers as it computes them."""
    torch.set_num_threads(1)
    names = ("finetune, batch", "finetune, source", "pretrain, none")
    return device_kind(CPU, Execution()), {name: CASES[name].compute() for name in names}
