"""Images that stay on a device. The processor stands for one: where images are changes no bit."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from jobs.data import device_images
from jobs.data.batches import to_device
from jobs.data.datasets import Dataset, ImageSet
from jobs.data.device_images import DeviceImages, kept_on, release
from jobs.data.whole_image import WholeImages
from jobs.kinds.finetune.trial import Finetuning
from jobs.models.weights import SourceWeights
from tests.jobs.support import finetune_spec, numbers

CPU = torch.device("cpu")


class Counted:
    """Images that count how often each is read."""

    def __init__(self, images: int = 7) -> None:
        self.pixels = torch.arange(images * 3 * 2 * 2, dtype=torch.uint8).view(images, 3, 2, 2)
        self.shape = tuple(self.pixels.shape)
        self.read = torch.zeros(images, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, images: Any, /) -> Tensor:
        self.read[images] += 1
        return self.pixels[images]


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    release()
    yield
    release()


@pytest.mark.parametrize(
    "selections",
    [[slice(0, 3), slice(3, 6), slice(6, 9)], [torch.tensor([5, 0, 5, 2])], [slice(2, 4), torch.tensor([3, 6, 1])]],
)
def test_each_image_is_read_once_and_equal(selections: list[slice | Tensor]) -> None:
    source = Counted()
    images = DeviceImages(source, CPU, most=7)
    assert (len(images), images.shape, images.bytes) == (7, source.shape, 7 * 12)
    for _ in range(2):
        for selection in selections:
            assert torch.equal(images[selection], source.pixels[selection])
    wanted = torch.zeros(7, dtype=torch.int64)
    for selection in selections:
        wanted[selection] = 1
    assert torch.equal(source.read, wanted)


@pytest.mark.parametrize("most", range(1, 7))
def test_the_first_ones_stay_and_the_others_are_read_again(most: int) -> None:
    source = Counted()
    images = DeviceImages(source, CPU, most)
    for _ in range(3):
        for selection in (slice(0, 2), torch.tensor([6, 3, 6, 0]), slice(4, 7)):
            assert torch.equal(images[selection], source.pixels[selection])
    assert images.bytes == 12 * most
    assert sum(source.read == 1) == min(most, 6), "image 5 was used, image 2 never"
    assert source.read[2] == 0


def test_what_is_returned_may_be_changed() -> None:
    source = Counted()
    images = DeviceImages(source, CPU, most=7)
    for selection in (slice(0, 3), torch.tensor([1, 2])):
        images[selection].zero_()
        assert torch.equal(images[selection], source.pixels[selection])


def dataset(train: int = 7, test: int = 4) -> Dataset:
    return Dataset(
        "made",
        ImageSet(Counted(train), torch.arange(train)),
        ImageSet(Counted(test), torch.arange(test)),
        "digest",
    )


def kept_images(data: Dataset) -> tuple[int, ...]:
    """Return how many images of the test and of the training set may stay on the device."""
    parts = (data.test.images_NCHW, data.train.images_NCHW)
    return tuple(images.bytes // 12 if isinstance(images, DeviceImages) else 0 for images in parts)


@pytest.mark.parametrize(
    ("room", "expected"), [(0, (0, 0)), (11, (0, 0)), (12, (1, 0)), (50, (4, 0)), (77, (4, 2)), (10**6, (4, 7))]
)
def test_what_fits_stays_and_test_images_come_first(room: int, expected: tuple[int, int]) -> None:
    assert kept_images(kept_on(CPU, dataset(), room=lambda device: room)) == expected


def test_trials_of_a_process_share_them_until_another_dataset_comes() -> None:
    one, other = dataset(), dataset()
    room = lambda device: 10**6  # noqa: E731
    first = kept_on(CPU, one, room=room)
    assert kept_on(CPU, one, room=room) is first
    assert kept_on(CPU, other, room=room) is not first
    assert kept_on(CPU, one, room=room) is not first, "released when the other came"


def test_nothing_stays_after_a_lack_of_memory() -> None:
    one = dataset()
    assert kept_on(CPU, one, room=lambda device: 10**6) is not one
    assert kept_on(CPU, one, room=lambda device: 0) is one
    assert device_images._latest == []


def test_training_images_for_the_processor_stay_there() -> None:
    kept = kept_on(CPU, dataset(), train=False, room=lambda device: 10**6)
    assert isinstance(kept.train.images_NCHW, Counted)
    assert isinstance(kept.test.images_NCHW, DeviceImages)


def test_whole_images_stay_on_the_machine() -> None:
    whole = WholeImages.__new__(WholeImages)
    data = dataset()
    kept = kept_on(CPU, data._replace(train=data.train._replace(images_NCHW=whole)), room=lambda device: 10**6)
    assert kept.train.images_NCHW is whole


def test_a_device_without_room_after_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process has taken it: batches are copied, as without room."""

    def full(*arguments: object, **options: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "empty", full)
    one = dataset()
    assert kept_on(CPU, one, room=lambda device: 10**6) == one


def test_the_processor_keeps_no_copy() -> None:
    one, x = dataset(), torch.ones(2)
    assert kept_on(CPU, one) is one
    assert to_device(x, CPU) is x


@pytest.mark.usefixtures("short_tests")
@pytest.mark.parametrize("images", [10, 10**6])
@pytest.mark.parametrize("recipe", [{}, {"frozen_batchnorm": "calibrated"}, {"transforms": "as-published"}])
def test_a_trial_computes_the_same_from_them(
    recipe: dict[str, Any], images: int, weights: SourceWeights, few_digits: Dataset
) -> None:
    """Of the test set all images stay, of the training set some or all."""
    spec, pixels = finetune_spec(recipe, epochs=2), few_digits.test.images_NCHW[:1].numel()
    kept = kept_on(CPU, few_digits, room=lambda device: (64 + images) * pixels)
    assert isinstance(kept.train.images_NCHW, DeviceImages)
    apart, there = (Finetuning(spec, weights, data, CPU) for data in (few_digits, kept))
    apart.advance()
    there.advance()
    assert numbers(apart) == numbers(there)
    assert all(torch.equal(tensor, there.tensors()[name]) for name, tensor in apart.tensors().items())
