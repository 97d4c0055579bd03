"""Bundles: trials that differ only in ``blocks``, trained together on one stream of batches.

Whatever is frozen in several trials is stored once and runs forward once per batch: the stem and the first blocks for
all trials, the blocks between two cuts for the trials in which they are frozen. Every trial computes the same numbers
as alone, bit for bit, because it applies the same operations to the same tensors.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from jobs.execution.determinism import deterministic
from jobs.execution.gpu_memory import refusals
from jobs.execution.metrics import RunningMetrics
from jobs.kinds.finetune.activation_cache import Activations
from jobs.kinds.finetune.spec import apart_from_blocks
from jobs.kinds.finetune.transfer import set_training_modes
from jobs.kinds.finetune.trial import Evaluation, Finetuning
from jobs.networks.folding import folded

BatchT = TypeVar("BatchT", slice, Tensor)
Failed = Callable[[Finetuning, Exception], None]
"""Called, while an error is handled, with the trial that leaves its bundle and the error."""


class Bundle:
    """Trials in progress at the same position; a bundle can be paused between any two batches.

    A trial that fails leaves; the others continue. An error in their shared work is raised, and so is a refused
    workspace (``jobs.execution.gpu_memory``), because trials share the algorithms of equal convolutions.
    """

    def __init__(self, trial: Finetuning, failed: Failed) -> None:
        """Create a bundle of one trial."""
        self.trials = [trial]
        """The trials that have not failed, largest heads first."""
        self._device = trial.device
        self._failed = failed

    def join(self, other: "Bundle") -> bool:
        """Take over the trials of another bundle; return False if the two cannot share work.

        They can if they are at the same position and their frozen blocks are equal. After a resume, some checkpoints
        may be older, or written on another device kind.
        """
        mine, theirs = self.deepest, other.deepest
        if self.position != other.position or (
            mine.cut is not None
            and theirs.cut is not None
            and not mine.network.same_trunk(theirs.network, min(mine.cut, theirs.cut))
        ):
            return False
        assert len({apart_from_blocks(trial.spec) for trial in self.trials + other.trials}) == 1, (
            "bundled trials differ in blocks"
        )
        self.trials = sorted(self.trials + other.trials, key=_frozen_blocks)
        for trial in self.trials:
            if trial.cut is not None:
                trial.network.adopt_trunk(self.deepest.network, trial.cut)
        return True

    @property
    def deepest(self) -> Finetuning:
        """The trial with the most frozen blocks; everything frozen in any trial is frozen in it."""
        return self.trials[-1]

    @property
    def epoch(self) -> int:
        return self.trials[0].epoch

    @property
    def position(self) -> tuple[int, int]:
        """Epoch (from 1) and batch (from 0) of the next step."""
        return self.trials[0].position

    @property
    def done(self) -> bool:
        """Whether nothing is left to train: all trials have finished or failed."""
        return not self.trials or self.trials[0].done

    def advance(self, pause: Callable[[], bool] = lambda: False) -> None:
        """Run until the trials are done, or until ``pause()``, called between batches, returns true.

        The elapsed time is divided equally between the trials.
        """
        with deterministic(self.trials[0].spec.recipe):
            while not self.done and not pause():
                started = time.monotonic()
                self._train_batch()
                rows = self._evaluate_epoch()
                refusals.require_none(self._device)
                seconds = (time.monotonic() - started) / max(len(self.trials), 1)
                for trial in self.trials:
                    trial.finish_batch(seconds, [rows[trial]] if trial in rows else [])

    @contextmanager
    def apart(self, trial: Finetuning) -> Iterator[None]:
        """Enter a context in which an error belongs to this trial alone: the trial leaves the bundle."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  # every error of a trial is reported as its failure
            self.trials.remove(trial)
            self._failed(trial, refusals.caught(error, trial.device))

    def fail(self, error: Exception) -> None:
        """Fail all trials because of an error in their shared work."""
        while self.trials:
            self._failed(self.trials.pop(), error)

    def _train_batch(self) -> None:
        deepest = self.deepest
        deepest.calibrate()
        below = None
        for trial in self.trials:
            trial.kept(below)
            below = trial
        indices = deepest.batches[deepest.batch]
        labels_N = deepest.training_labels(indices)
        for trial in self.trials:
            set_training_modes(trial.network, trial.spec)
        for trial, x_NCHW in self._inputs("train", indices, deepest.training_images):
            with self.apart(trial):
                trial.set_learning_rate()
                trial.learn(trial.head(x_NCHW), labels_N)

    @torch.inference_mode()
    def _evaluate_epoch(self) -> dict[Finetuning, Evaluation]:
        """Evaluate at the end of an epoch, if that epoch is evaluated."""
        if not self.trials or not self.trials[0].ends_epoch or not self.trials[0].evaluates:
            return {}
        tallies = {trial: RunningMetrics() for trial in self.trials}
        for trial in self.trials:
            trial.network.eval()
        first = self.trials[0]
        with folded([fold for trial in self.trials for fold in trial.folds()]):
            for part, labels_N in first.test_batches():
                if not self.trials:
                    break
                for trial, x_NCHW in self._inputs("test", part, first.test_images):
                    with self.apart(trial):
                        logits_NK = trial.head(x_NCHW)
                        tallies[trial].add(logits_NK, labels_N, nn.functional.cross_entropy(logits_NK, labels_N))
        rows = {}
        for trial in list(self.trials):
            with self.apart(trial):
                rows[trial] = trial.row(tallies[trial])
        return rows

    def _inputs(
        self, which: Literal["train", "test"], part: BatchT, images: Callable[[BatchT], Tensor]
    ) -> Iterator[tuple[Finetuning, Tensor]]:
        """Yield each trial with the input of its head for a batch, stored or computed now.

        Frozen blocks shared by several trials run once, up to the deepest cut.
        """
        network, x_NCHW, at = self.deepest.network, None, None
        for trial in list(self.trials):  # a copy, because trials can fail and leave during the loop
            kept: Activations | None = getattr(trial.kept(), which)
            if kept is not None:
                yield trial, kept.part(part)
                continue
            x_NCHW = images(part) if x_NCHW is None else x_NCHW
            if trial.cut is not None:
                x_NCHW = network.trunk(x_NCHW, trial.cut) if at is None else network.between(x_NCHW, at, trial.cut)
                at = trial.cut
            yield trial, x_NCHW


def _frozen_blocks(trial: Finetuning) -> int:
    """Return the number of frozen blocks; -1 if not even the stem is frozen."""
    return -1 if trial.cut is None else trial.cut
