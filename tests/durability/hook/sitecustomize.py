"""Loaded by every Python process of a kill test (its folder is on PYTHONPATH): watches and disturbs training.

No product code: it wraps ``jobs.finetune.Finetuning._train_batch`` once that module is imported. In the folder
that ``DELTASWEEP_TEST_CONTROL`` names, each batch that begins becomes a line ``trial_id epoch batch pid host``
of the file ``trace``, and ``control.json`` says what to do to it: ``seconds`` to wait (a wait leaves the processor to
others), ``fail``: a list of {trial, epoch, error, below_cpus} for errors to raise; ``trial: "*"`` is every trial.
"""

import builtins
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

CONTROL = os.environ.get("DELTASWEEP_TEST_CONTROL")


def _cpus_of_this_actor() -> float:
    import ray

    resources = ray.get_runtime_context().get_assigned_resources()  # type: ignore[no-untyped-call]  # Ray gives it no types
    return float(resources.get("CPU", 0))


def _disturb(control: dict[str, Any], trial: str, epoch: int) -> None:
    time.sleep(control.get("seconds", 0))
    for rule in control.get("fail", ()):
        if rule["trial"] not in ("*", trial) or rule["epoch"] != epoch:
            continue
        if "below_cpus" not in rule or _cpus_of_this_actor() < rule["below_cpus"]:
            raise getattr(builtins, rule["error"])(f"raised by the test in epoch {epoch}")


def _wrapped(train_batch: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    def traced(self: Any, indices: Any) -> None:
        trial = self.spec.trial_id
        line = f"{trial} {self.epoch} {self.batch} {os.getpid()} {socket.gethostname()}\n".encode()
        trace = os.open(f"{CONTROL}/trace", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(trace, line)
        finally:
            os.close(trace)
        _disturb(json.loads(Path(f"{CONTROL}/control.json").read_bytes()), trial, self.epoch)
        train_batch(self, indices)

    return traced


class _Wrapping(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        finetuning = vars(module)["Finetuning"]
        finetuning._train_batch = _wrapped(finetuning._train_batch)


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == "jobs.finetune" else None
        if spec is not None and spec.loader is not None:
            spec.loader = _Wrapping(spec.loader)
        return spec


if CONTROL:
    sys.meta_path.insert(0, _Finder())
