"""Fine-tuning that can be watched and disturbed, in any process.

The folder is given by ``DELTASWEEP_TEST_CONTROL``, without which no trial runs. Each step appends a line ``trial_id
epoch batch pid host`` to its file ``trace``. Its ``control.json`` gives the instructions: ``seconds`` to wait (waiting
leaves the CPU to others), and ``fail``: a list of {trial, epoch, error, below_cpus} for errors to raise; ``trial: "*"``
is every trial.
"""

import builtins
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import ray
from torch import Tensor

from jobs.kinds.finetune.trial import Finetuning
from tests.durability.watched import CONTROL


class WatchedTrial(Finetuning):
    """Traced and disturbed before each optimizer step, alone and in a bundle."""

    def learn(self, logits_NK: Tensor, labels_N: Tensor) -> None:
        control = Path(os.environ[CONTROL])
        trial = self.spec.trial_id
        _append(control / "trace", f"{trial} {self.epoch} {self.batch} {os.getpid()} {socket.gethostname()}\n")
        _disturb(json.loads((control / "control.json").read_bytes()), trial, self.epoch)
        super().learn(logits_NK, labels_N)


def _append(file: Path, line: str) -> None:
    """Append a line in one system call, because other processes append to the file as well."""
    trace = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(trace, line.encode())
    finally:
        os.close(trace)


def _disturb(control: dict[str, Any], trial: str, epoch: int) -> None:
    time.sleep(control["seconds"])
    for rule in control["fail"]:
        if rule["trial"] not in ("*", trial) or rule["epoch"] != epoch:
            continue
        if "below_cpus" not in rule or _cpus_of_this_actor() < rule["below_cpus"]:
            raise getattr(builtins, rule["error"])(f"raised by the test in epoch {epoch}")


def _cpus_of_this_actor() -> float:
    resources = ray.get_runtime_context().get_assigned_resources()  # type: ignore[no-untyped-call]  # untyped in Ray
    return float(resources.get("CPU", 0))
