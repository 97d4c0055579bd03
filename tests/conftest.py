"""Fixtures shared by the tests of jobs and orchestrator: small data, made weights, small trials."""

import os
from pathlib import Path

import pytest
import torch

from jobs.data.datasets import Dataset, ImageSet, load_dataset
from jobs.results import LocalStore
from jobs.weights import SourceWeights
from tests.jobs.support import make_weights

# More threads are no faster on networks this small, and far slower on a busy machine. What must not
# depend on the number sets another one itself.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes what this machine keeps for its user."""
    monkeypatch.setenv("DELTASWEEP_HOME", str(tmp_path / "home"))
    assert "DELTASWEEP_HOME" in os.environ


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """The bundled digits at the miniature's image size."""
    return load_dataset("digits", 32)


@pytest.fixture(scope="session")
def few_digits(digits: Dataset) -> Dataset:
    """64 training and 64 test digits, all ten labels in both."""
    few = digits._replace(
        train=ImageSet(digits.train.images_NCHW[:64], digits.train.labels_N[:64]),
        test=ImageSet(digits.test.images_NCHW[:64], digits.test.labels_N[:64]),
    )
    assert len(torch.unique(few.train.labels_N)) == len(torch.unique(few.test.labels_N)) == 10
    return few


@pytest.fixture(scope="session")
def weights() -> SourceWeights:
    """Freshly initialised weights of the miniature: good enough for everything but accuracy."""
    return make_weights(seed=1)


@pytest.fixture(scope="session")
def other_weights() -> SourceWeights:
    """Another source of the same architecture."""
    return make_weights(seed=2)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """An empty results root."""
    return LocalStore(tmp_path / "root")
