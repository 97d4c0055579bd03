"""A reused actor: it loads sources and datasets once, and what a trial took is given back after it."""

import ctypes
import gc
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from jobs import finetune, weights
from jobs.attempts import Keeping, attempt_trial, open_trial
from jobs.data import datasets
from jobs.records import Attempt
from jobs.results import Store, open_store
from tests.jobs.support import finetune_spec, load_short

HERE = Path(__file__).parents[2]
WARM = 100
"""Trials until caches, and pools of the allocators, have what they keep."""
TRIALS = 120
LEAKING = 25
MOST_GROWTH = 10 << 10
"""Bytes a trial. What stays of one on purpose, its id and spec in a bounded cache, shows as 2 to 4 kB."""
LEAK = 20 << 10
"""Bytes a trial: a hundredth of a network of the miniature."""


def run(store: Store, seed: int) -> None:
    """A trial as an actor runs it."""
    spec = finetune_spec(seed=seed, epochs=1, blocks=seed % 4)
    attempt_trial(store, open_trial(store, spec, torch.device("cpu")), Attempt(), Keeping(1))


def held() -> int:
    """Bytes of memory that this process needs: its own, after what the allocator kept for later went back.

    What it keeps, some 50 MB after small trials, goes up and down by 20 MB without anything being held. Pages of files,
    such as libraries, come and go as the system has room for them: they are not counted.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * sum(int(status[name].split()[0]) for name in ("RssAnon", "VmSwap"))


def test_sources_and_datasets_are_loaded_once(tmp_path: Path) -> None:
    weights.load_source.cache_clear()
    datasets.load_card.cache_clear()
    for seed in range(3):
        run(open_store(tmp_path), seed)
    assert weights.load_source.cache_info().misses == 1
    assert datasets.load_card.cache_info().misses == 1


def growth(root: str) -> tuple[float, float]:
    """Bytes that a trial leaves held in this process; and those that a trial does whose ``LEAK`` is kept, too."""
    setattr(finetune, "load_dataset", load_short)  # noqa: B010  # that module imported it
    store = open_store(root)
    for seed in range(WARM):
        run(store, seed)
    warm = held()
    for seed in range(WARM, WARM + TRIALS):
        run(store, seed)
    after = held()
    kept = []
    for seed in range(WARM + TRIALS, WARM + TRIALS + LEAKING):
        run(store, seed)
        kept.append(b"x" * LEAK)
    return (after - warm) / TRIALS, (held() - after) / LEAKING


@pytest.mark.slow
def test_memory_is_flat_over_many_trials(tmp_path: Path) -> None:
    """In a process of its own, as an actor is: what other tests leave to be freed or reused is not there."""
    command = f"from {growth.__module__} import growth; print(*growth({str(tmp_path)!r}))"
    ended = subprocess.run([sys.executable, "-c", command], check=True, capture_output=True, text=True, cwd=HERE)
    grown, leaked = map(float, ended.stdout.split())
    assert grown < MOST_GROWTH, f"{grown:.0f} bytes more after each of {TRIALS} trials"
    assert leaked > MOST_GROWTH, "a small leak would not be seen"
