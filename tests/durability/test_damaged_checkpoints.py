"""A damaged checkpoint is reported, costs the work since the previous one, and changes no number."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from jobs.catalog.catalog import PACKAGED
from jobs.execution.attempt import AttemptStatus, attempt_trial
from jobs.execution.commit import Attempt
from jobs.execution.retention import RetentionPolicy
from jobs.kinds.finetune.trial import Finetuning
from jobs.results import open_store
from tests.durability.sweep import Rows, Sweep

CHECKPOINT_EVERY = 2
"""Epochs between checkpoints of the interrupted trials."""

pytestmark = [pytest.mark.slow(170), pytest.mark.timeout(600)]


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def test_damaged_checkpoints(make_sweep: Callable[..., Sweep], reference: Rows) -> None:
    """Six interrupted trials: one damaged in each way, one with both checkpoints damaged, two left intact."""
    sweep = make_sweep(images=(75,))
    trials = sorted(sweep.specs)
    for trial in trials:
        _interrupt(sweep, trial)
    damage = dict(zip(trials, (_flip, _cut, _empty, _flip), strict=False))
    damaged = [sweep.checkpoints(trial)[0] for trial in damage]
    damaged.append(sweep.checkpoints(trials[3])[1])
    before = {trial: _position(sweep.checkpoints(trial)[1]) for trial in trials[:3]}
    before |= {trials[3]: (1, 0)} | {trial: sweep.last_checkpoint(trial) for trial in trials[4:]}
    for file in damaged:
        damage[file.parent.name](file)

    run = sweep.start("launch")
    assert run.wait() == 0, run.text
    notes = [line for line in run.text.splitlines() if line.startswith("Note: ")]
    assert len(notes) == len(damaged), run.text
    for file in damaged:
        (note,) = [line for line in notes if file.name in line]
        assert "cannot be used" in note
    first = {b.trial: (b.epoch, b.batch) for b in reversed(sweep.trace())}
    assert first == before, "a trial did not go on where its last good checkpoint stands"
    sweep.require_same_as(reference)


def _position(checkpoint: Path) -> tuple[int, int]:
    epoch, batch, _ = checkpoint.name.split("-")
    return int(epoch[1:]), int(batch[1:])


def _interrupt(sweep: Sweep, trial: str) -> None:
    """Run a trial in this process into its fifth epoch; ``stop`` is called at each checkpoint, too."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 4 * sweep.batches_an_epoch(trial) + 4

    store = open_store(str(sweep.root))
    opened = Finetuning.open(store, sweep.specs[trial], PACKAGED, torch.device("cpu"))
    ended = attempt_trial(store, opened, Attempt(), RetentionPolicy(CHECKPOINT_EVERY), stop)
    assert ended.status is AttemptStatus.STOPPED
    assert len(sweep.checkpoints(trial)) == 2
