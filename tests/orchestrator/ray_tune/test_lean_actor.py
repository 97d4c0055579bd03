"""A reused actor loads sources and datasets once, and releases a trial's memory after it."""

import ctypes
import gc
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from jobs.catalog.catalog import PACKAGED
from jobs.data import datasets
from jobs.execution.attempt import attempt_trial, open_trial
from jobs.execution.commit import Attempt
from jobs.execution.retention import RetentionPolicy
from jobs.kinds.finetune import trial as finetuning
from jobs.models import weights
from jobs.results import Store, open_store
from tests.jobs.support import finetune_spec, load_short

HERE = Path(__file__).parents[3]
WARM = 100
"""Number of trials after which caches and allocator pools have reached their final size."""
TRIALS = 120
LEAKING = 25
MOST_GROWTH = 10 << 10
"""Bytes per trial. What is kept on purpose, a trial's id and spec in a bounded cache, shows as 2 to 4 kB."""
LEAK = 20 << 10
"""Bytes per trial: a hundredth of a network of the miniature."""


def run(store: Store, seed: int) -> None:
    """Run a trial as an actor does."""
    spec = finetune_spec(seed=seed, epochs=1, blocks=seed % 4)
    attempt_trial(store, open_trial(store, spec, PACKAGED, torch.device("cpu")), Attempt(), RetentionPolicy(1))


def held() -> int:
    """Return the bytes of private memory that this process needs, after the allocator has returned its free memory.

    Without that, the memory the allocator keeps, some 50 MB after small trials, varies by 20 MB while nothing is in
    use. Pages of files, such as libraries, are not counted, because the system loads and drops them as memory allows.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * sum(int(status[name].split()[0]) for name in ("RssAnon", "VmSwap"))


def test_sources_and_datasets_are_loaded_once(tmp_path: Path) -> None:
    weights.load_source.cache_clear()
    datasets.cached_dataset.cache_clear()
    for seed in range(3):
        run(open_store(tmp_path), seed)
    assert weights.load_source.cache_info().misses == 1
    assert datasets.cached_dataset.cache_info().misses == 1


def growth(root: str) -> tuple[float, float]:
    """Return the bytes that each trial leaves allocated in this process, without and with a leak of ``LEAK`` bytes."""
    setattr(finetuning, "load_dataset", load_short)  # noqa: B010  # patched where it was imported
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
    """Run in a separate process, as an actor is, so that memory left over from other tests has no effect."""
    command = f"from {growth.__module__} import growth; print(*growth({str(tmp_path)!r}))"
    ended = subprocess.run([sys.executable, "-c", command], check=True, capture_output=True, text=True, cwd=HERE)
    grown, leaked = map(float, ended.stdout.split())
    assert grown < MOST_GROWTH, f"{grown:.0f} bytes more after each of {TRIALS} trials"
    assert leaked > MOST_GROWTH, "a small leak would not be seen"
