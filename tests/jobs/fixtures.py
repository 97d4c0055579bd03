"""Fixtures of tests that train: small data, generated weights. Imported by the conftests that need them."""

from collections.abc import Iterator

import pytest
import torch
from sklearn.datasets import load_sample_images

from jobs.data.datasets import Dataset, ImageSet
from jobs.kinds.finetune import trial as finetuning
from jobs.kinds.pretrain import trial as pretraining
from jobs.models.weights import SourceWeights
from tests.jobs.support import few_images, load_short, make_weights
from tests.packaged import packaged_dataset


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """The bundled digits at the miniature's image size."""
    return packaged_dataset("digits", 32)


@pytest.fixture(scope="session")
def few_digits(digits: Dataset) -> Dataset:
    """64 training and 64 test digits, with all ten labels in both."""
    few = few_images(digits)
    assert len(torch.unique(few.train.labels_N)) == len(torch.unique(few.test.labels_N)) == 10
    return few


@pytest.fixture(scope="session")
def colours() -> Dataset:
    """32 training and 32 test patches of scikit-learn's two photographs, 32 x 32, under the name of a colour dataset.

    The ten labels are invented and follow from the position of the patch.
    """

    def part(first_row: int) -> ImageSet:
        photographs = [torch.from_numpy(image.copy()) for image in load_sample_images().images]
        patches = [photographs[i % 2][first_row + 7 * i :, 19 * i :][:32, :32].permute(2, 0, 1) for i in range(32)]
        return ImageSet(torch.stack(patches).contiguous(), torch.arange(32) % 10)

    return Dataset("cifar10", part(0), part(150), "photographs")


@pytest.fixture(scope="session")
def weights() -> SourceWeights:
    """Freshly initialized weights of the miniature, sufficient for everything but accuracy."""
    return make_weights(seed=1)


@pytest.fixture(scope="session")
def other_weights() -> SourceWeights:
    """Another source of the same architecture."""
    return make_weights(seed=2)


@pytest.fixture(scope="module")
def short_tests() -> Iterator[None]:
    """Let the trials of a module evaluate on 64 test images; the whole test set takes most of a small trial's time."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (finetuning, pretraining):
            patch.setattr(module, "load_dataset", load_short)
        yield
