"""A replica with changes, in place of ``jobs.kinds.pretrain.replica``."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.data.datasets import Dataset, load_dataset
from jobs.execution.gpu_memory import refusals
from jobs.kinds.pretrain import trial
from jobs.kinds.pretrain.replica import follow
from jobs.kinds.pretrain.trial import Pretraining
from tests.jobs.support import few_images

CHANGE = "ALTERED_REPLICA"
"""Environment variable: the changes, separated by commas."""

AT_THE_END = "it failed after its last batch"


def _refuse(patch: pytest.MonkeyPatch) -> None:
    """Let its GPU refuse memory without an error, as to cuDNN."""
    patch.setattr(refusals, "_count", lambda device: 1)


def _fail_at_the_end(patch: pytest.MonkeyPatch) -> None:
    original = Pretraining.advance

    def advance(self: Pretraining, pause: Callable[[], bool]) -> None:
        original(self, pause)
        raise ValueError(AT_THE_END)

    patch.setattr(Pretraining, "advance", advance)


def _read_few_images(patch: pytest.MonkeyPatch) -> None:
    """Let it have the images of the fixture ``few_digits``."""

    def load(*place: Any, **how: Any) -> Dataset:
        return few_images(load_dataset(*place, **how))

    patch.setattr(trial, "load_dataset", load)


CHANGES = {"refuse": _refuse, "fail at the end": _fail_at_the_end, "few images": _read_few_images}

if __name__ == "__main__":
    for change in os.environ[CHANGE].split(", "):
        CHANGES[change](pytest.MonkeyPatch())
    follow(Path(sys.argv[1]))
