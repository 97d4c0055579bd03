"""Fixtures shared by the tests of jobs and orchestrator: small data, made weights, small trials."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_sample_images

from jobs.data.datasets import Dataset, ImageSet, load_dataset
from jobs.results import Store, open_store
from jobs.weights import SourceWeights
from tests.jobs.support import make_weights

# More threads are no faster on networks this small, and far slower on a busy machine. What must not
# depend on the number sets another one itself.
torch.set_num_threads(1)

# A shell that starts tests in the background has them, and all that they start, ignore Ctrl-C; some send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


_UNPROVEN = "unproven"


@pytest.fixture
def unproven(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """To say at the end of the run what could not be proved here, and how to make it possible."""
    return lambda what: request.node.user_properties.append((_UNPROVEN, what))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for found in terminalreporter.stats.values() for report in found]
    properties = [prop for report in reports for prop in getattr(report, "user_properties", ())]
    if said := sorted({what for name, what in properties if name == _UNPROVEN}):
        terminalreporter.section("not proved on this machine")
        for line in said:
            terminalreporter.line(line)


@pytest.fixture(autouse=True)
def _machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes what this machine keeps for its user, or sees what a failed test left switched."""
    monkeypatch.setenv("DELTASWEEP_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)
    torch.set_grad_enabled(True)


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
def colours() -> Dataset:
    """32 training and 32 test patches of scikit-learn's two photographs, 32 x 32, under the name of a colour dataset.

    The ten labels are made up: the place a patch was cut from.
    """

    def part(first_row: int) -> ImageSet:
        photographs = [torch.from_numpy(image.copy()) for image in load_sample_images().images]
        patches = [photographs[i % 2][first_row + 7 * i :, 19 * i :][:32, :32].permute(2, 0, 1) for i in range(32)]
        return ImageSet(torch.stack(patches).contiguous(), torch.arange(32) % 10)

    return Dataset("cifar10", part(0), part(150), "photographs")


@pytest.fixture(scope="session")
def weights() -> SourceWeights:
    """Freshly initialised weights of the miniature: good enough for everything but accuracy."""
    return make_weights(seed=1)


@pytest.fixture(scope="session")
def other_weights() -> SourceWeights:
    """Another source of the same architecture."""
    return make_weights(seed=2)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty results root."""
    return open_store(tmp_path / "root")
