"""Loaded by every Python process of a scheduler benchmark (its folder is on PYTHONPATH): trials that train nothing.

No product code: once ``jobs.finetune`` is imported, its ``open_finetuning`` is that of ``benchmarks.stand_ins``. All
around it is the real thing: launch, actors, attempts, pins, checkpoints' listing, commit.
"""

import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


def _open_stand_in(*arguments: Any) -> object:
    from benchmarks.stand_ins import open_stand_in  # which imports jobs.finetune itself

    return open_stand_in(*arguments)


class _Replacing(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        vars(module)["open_finetuning"] = _open_stand_in


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == "jobs.finetune" else None
        if spec is not None and spec.loader is not None:
            spec.loader = _Replacing(spec.loader)
        return spec


if "DELTASWEEP_BENCHMARK_SECONDS" in os.environ:
    sys.meta_path.insert(0, _Finder())
