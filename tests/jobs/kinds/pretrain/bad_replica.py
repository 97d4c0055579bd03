"""A replica with one fault, in place of ``jobs.kinds.pretrain.replica``."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from jobs.execution.gpu_memory import refusals
from jobs.kinds.pretrain.replica import follow
from jobs.kinds.pretrain.trial import Pretraining

FAULT = "BAD_REPLICA"
"""Environment variable: the fault."""

AT_THE_END = "it failed after its last batch"


def _refuse() -> None:
    """Let its GPU refuse memory without an error, as to cuDNN."""
    refusals._count = lambda device: 1


def _fail_at_the_end() -> None:
    original = Pretraining.advance

    def advance(self: Pretraining, pause: Callable[[], bool] = lambda: False) -> None:
        original(self, pause)
        raise ValueError(AT_THE_END)

    Pretraining.advance = advance  # type: ignore[method-assign]  # in a process of its own


FAULTS = {"refuse": _refuse, "fail at the end": _fail_at_the_end}

if __name__ == "__main__":
    FAULTS[os.environ[FAULT]]()
    follow(Path(sys.argv[1]))
