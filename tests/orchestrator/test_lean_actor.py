"""A reused actor: it loads sources and datasets once, and what a trial took is given back after it."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from jobs import weights
from jobs.attempts import Keeping, attempt_trial, open_trial
from jobs.data import datasets
from jobs.records import Attempt
from jobs.results import Store, open_store
from tests.jobs.support import finetune_spec

HERE = Path(__file__).parents[2]
TRIALS = 300
WARM = 50
"""Trials until allocators and caches have what they keep."""
MOST_GROWTH = 8 << 20
"""Bytes over 250 trials; one network of the miniature, kept from each, would be 360 MB."""


def run(store: Store, seed: int) -> None:
    """A trial as an actor runs it."""
    spec = finetune_spec(seed=seed, epochs=1, blocks=seed % 4)
    attempt_trial(store, open_trial(store, spec, torch.device("cpu")), Attempt(), Keeping(1))


def resident() -> int:
    """Bytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def test_sources_and_datasets_are_loaded_once(tmp_path: Path) -> None:
    weights.load_source.cache_clear()
    datasets.load_card.cache_clear()
    for seed in range(3):
        run(open_store(tmp_path), seed)
    assert weights.load_source.cache_info().misses == 1
    assert datasets.load_card.cache_info().misses == 1


def growth(root: str) -> int:
    """Bytes that this process holds more after all trials than after the first ones."""
    store = open_store(root)
    for seed in range(WARM):
        run(store, seed)
    gc.collect()
    before = resident()
    for seed in range(WARM, TRIALS):
        run(store, seed)
    gc.collect()
    return resident() - before


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_memory_is_flat_over_many_trials(tmp_path: Path) -> None:
    """In a process of its own, as an actor is: what other tests leave to be freed or reused is not there."""
    command = f"from {growth.__module__} import growth; print(growth({str(tmp_path)!r}))"
    ended = subprocess.run([sys.executable, "-c", command], check=True, capture_output=True, text=True, cwd=HERE)
    grown = int(ended.stdout)
    assert grown < MOST_GROWTH, f"{grown / 1e6:.1f} MB more after {TRIALS - WARM} trials"
