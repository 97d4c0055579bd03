"""A bundle: trials that differ only in ``blocks``, in progress together on one stream of batches.

What is frozen in several of them is held once and runs forward once a batch: the stem and the first blocks for
all, the blocks between two cuts for the trials in which they are frozen. Every trial computes the same numbers as
alone, to the last bit, because it sees the same operations on the same tensors.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from jobs.activations import Activations
from jobs.evaluation import Tally
from jobs.finetune import Evaluation, Finetuning
from jobs.numerics import numerics
from jobs.specs import apart_from_blocks
from jobs.transfer import set_training_modes

BatchT = TypeVar("BatchT", slice, Tensor)
Failed = Callable[[Finetuning, Exception], None]
"""Told of a trial that leaves its bundle, and why, while the error is handled."""


class Bundle:
    """Trials in progress that stand at one position; it can be paused between any two batches.

    A trial that fails leaves; the others go on. An error in what they share is raised.
    """

    def __init__(self, trial: Finetuning, failed: Failed) -> None:
        """A bundle of one."""
        self.trials = [trial]
        """Those that have not failed, the largest heads first."""
        self._failed = failed

    def join(self, other: "Bundle") -> bool:
        """Take in the trials of another bundle; False when they cannot share.

        They stand at one position and their frozen blocks are equal: after a resume the checkpoints of some may be
        older, or have been made on another kind of device.
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
        """The trial in which the most is frozen: whatever is frozen in any is frozen in it."""
        return self.trials[-1]

    @property
    def epoch(self) -> int:
        return self.trials[0].epoch

    @property
    def position(self) -> tuple[int, int]:
        """The epoch (from 1) and the batch (from 0) that come next."""
        return self.trials[0].position

    @property
    def done(self) -> bool:
        """Whether nothing is left to train: finished, or all failed."""
        return not self.trials or self.trials[0].done

    def advance(self, pause: Callable[[], bool] = lambda: False) -> None:
        """Go on until the trials are done, or until ``pause()``, asked between batches, says so.

        Each trial is charged its equal part of the seconds.
        """
        with numerics(self.trials[0].spec.recipe):
            while not self.done and not pause():
                started = time.monotonic()
                self._train_batch()
                rows = self._evaluate_epoch()
                seconds = (time.monotonic() - started) / max(len(self.trials), 1)
                for trial in self.trials:
                    trial.finish_batch(seconds, [rows[trial]] if trial in rows else [])

    @contextmanager
    def apart(self, trial: Finetuning) -> Iterator[None]:
        """An error inside is the trial's own: it leaves the bundle."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  # whatever a trial raises is that trial's failure alone
            self.trials.remove(trial)
            self._failed(trial, error)

    def fail(self, error: Exception) -> None:
        """All trials fail by an error in what they share."""
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

    @torch.no_grad()
    def _evaluate_epoch(self) -> dict[Finetuning, Evaluation]:
        """Measure at the end of an epoch, if it is one to measure after."""
        if not self.trials or not self.trials[0].ends_epoch or not self.trials[0].evaluates:
            return {}
        tallies = {trial: Tally() for trial in self.trials}
        for trial in self.trials:
            trial.network.eval()
        first = self.trials[0]
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
        """Each trial with what its head takes of a batch: what is kept, or computed now. What is then frozen in several
        runs once, on the way to the deepest cut.
        """
        network, x_NCHW, at = self.deepest.network, None, None
        for trial in list(self.trials):  # some may fail, and leave, on the way
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
    """Their number; -1 when not even the stem is frozen."""
    return -1 if trial.cut is None else trial.cut
