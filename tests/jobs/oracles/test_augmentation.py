"""Augmentation compared with torchvision's transforms on PIL images: every byte, with the same draws."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from jobs.data.augmentation import Draws, augment, draw
from jobs.data.datasets import Dataset
from tests.jobs.oracles.pil import all_augmented, augmented
from tests.jobs.oracles.pil import digits as pil_digits

CHANNELS = pytest.mark.parametrize("channels", [1, 3])
"""Grey images, which PIL stores in mode L, and colour images."""


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, height: int, width: int, seed: int, channels: int = 3) -> Tensor:
    """Return bytes of every value, unlike any photograph."""
    return torch.randint(256, (count, channels, height, width), dtype=torch.uint8, generator=rng(seed))


def test_photographs(colours: Dataset) -> None:
    images_NCHW = torch.cat([colours.train.images_NCHW[:], colours.test.images_NCHW[:]] * 4)
    draws = draw(256, rng(1))
    assert torch.equal(augment(images_NCHW, draws), all_augmented(images_NCHW, draws))


def test_digits(digits: Dataset) -> None:
    """PIL's own images of mode L, whose bytes are the dataset's."""
    images_NCHW = digits.train.images_NCHW[:256]
    draws = draw(256, rng(1))
    wanted = [augmented(image, draws, index) for index, image in enumerate(pil_digits(images_NCHW))]
    assert {image.mode for image in wanted} == {"L"}
    assert torch.equal(augment(images_NCHW, draws), torch.stack([pil_to_tensor(image) for image in wanted]))


@CHANNELS
@pytest.mark.parametrize(("height", "width"), [(224, 224), (28, 28), (31, 47), (64, 33)])
def test_noise_at_several_sizes(height: int, width: int, channels: int) -> None:
    images_NCHW = noise(12, height, width, 2, channels)
    draws = draw(12, rng(3))
    assert torch.equal(augment(images_NCHW, draws), all_augmented(images_NCHW, draws))


@CHANNELS
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31), st.integers(0, 255), st.integers(0, 255))
def test_any_size_and_any_range_of_colours(
    channels: int, height: int, width: int, seed: int, one: int, other: int
) -> None:
    images_NCHW = noise(4, height, width, seed, channels).clamp(min(one, other), max(one, other))
    draws = draw(4, rng(seed))
    assert torch.equal(augment(images_NCHW, draws), all_augmented(images_NCHW, draws))


def test_a_grey_image_is_augmented_as_its_three_equal_channels() -> None:
    """Repeating the channel in the normalizer gives the same result as repeating it first."""
    images_NCHW = noise(64, 32, 32, 5, channels=1)
    draws = draw(64, rng(5))
    repeated = augment(images_NCHW.expand(-1, 3, -1, -1), draws)
    assert torch.equal(augment(images_NCHW, draws).expand(-1, 3, -1, -1), repeated)


EDGES = {
    "nothing": ([4, 4], False, [1.0, 1.0, 1.0], 0.0),
    "least": ([0, 0], False, [0.75, 0.75, 0.75], -2.0),
    "most": ([8, 8], True, [1.25, 1.25, 1.25], 2.0),
    "nearly nothing": ([4, 4], True, [1 - 2**-24, 1 + 2**-23, 1 - 2**-24], 2**-22),
    "between": ([0, 8], True, [0.75, 1.25, 1.25], 1.0),
}


@CHANNELS
@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("order", [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
def test_edges_of_the_draws(edge: str, order: list[int], channels: int) -> None:
    corner, flipped, factors, degrees = EDGES[edge]
    pure = [[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [1, 254, 127]]
    flat_NCHW = torch.tensor(pure, dtype=torch.uint8)[:, :, None, None].expand(-1, -1, 20, 20)
    images_NCHW = torch.cat([flat_NCHW, noise(5, 20, 20, seed=4)])[:, :channels]
    draws = Draws(
        corners_N2=torch.tensor([corner] * 12),
        flipped_N=torch.tensor([flipped] * 12),
        factors_N3=torch.tensor([factors] * 12),
        order_N3=torch.tensor([order] * 12),
        degrees_N=torch.tensor([degrees] * 12),
    )
    found = augment(images_NCHW, draws)
    assert torch.equal(found, all_augmented(images_NCHW, draws))
    assert torch.equal(found, images_NCHW) == (edge == "nothing")


@CHANNELS
@pytest.mark.parametrize("place", range(3))
def test_a_mean_halfway_between_two_greys_is_rounded_up(place: int, channels: int) -> None:
    """Contrast moves values towards the mean: half of the pixels at 100 and half at 101 have the mean 100.5."""
    image_CHW = torch.tensor([100, 101], dtype=torch.uint8).repeat(channels, 20, 10)
    order = [2, 0]
    order.insert(place, 1)
    draws = Draws(
        corners_N2=torch.tensor([[4, 4]]),
        flipped_N=torch.tensor([False]),
        factors_N3=torch.tensor([[1.0, 0.75, 1.0]]),
        order_N3=torch.tensor([order]),
        degrees_N=torch.tensor([0.0]),
    )
    found = augment(image_CHW[None], draws)
    assert torch.equal(found, all_augmented(image_CHW[None], draws))
    values: Tensor = found.unique()  # type: ignore[no-untyped-call]  # untyped in torch
    assert values.tolist() == [100, 101], "100.25 and 101, cut off; a mean of 100 would make both 100"
