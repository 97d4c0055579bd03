"""Random subsets: every label, no repeated image, no preferred image, all from the seed."""

import hashlib

import pytest
import torch
from scipy import stats
from torch import Tensor

from jobs.data.datasets import Dataset
from jobs.data.subsets import draw_subset, subset_digest
from jobs.errors import Code, InvalidRequest
from jobs.execution.seeding import Purpose, generator
from tests.support import refused


def labels_like(counts: list[int]) -> Tensor:
    """Return shuffled labels with this many images each."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize("images", [10, 11, 50, 999, 1000])
def test_size_labels_order_and_no_duplicates(digits: Dataset, images: int) -> None:
    labels = digits.train.labels_N
    for seed in range(20):
        subset = draw_subset(labels, images, seed)
        assert len(subset) == images
        assert (subset.diff() > 0).all(), "ascending, so without duplicates"
        assert subset.min() >= 0
        assert subset.max() < len(labels)
        assert len(torch.unique(labels[subset])) == 10


def test_as_many_images_as_labels_are_exactly_one_each() -> None:
    """cifar100 at 100 images (Table 4's smallest size)."""
    labels = labels_like([500] * 100)
    for seed in range(5):
        subset = draw_subset(labels, 100, seed)
        assert torch.equal(labels[subset].sort().values, torch.arange(100))


def test_rare_labels_are_never_missing() -> None:
    labels = labels_like([1, 2000, 2000])
    for seed in range(50):
        assert (labels[draw_subset(labels, 4, seed)] == 0).sum() == 1


def test_labels_need_not_be_consecutive() -> None:
    labels = torch.tensor([9, 9, 3, 3, 3, 9])
    assert set(labels[draw_subset(labels, 2, seed=1)].tolist()) == {3, 9}


def test_the_whole_set_is_in_its_own_order() -> None:
    labels = labels_like([5, 7])
    assert torch.equal(draw_subset(labels, -1, seed=1), torch.arange(12))
    assert torch.equal(draw_subset(labels, 12, seed=1), torch.arange(12))


def test_a_seed_gives_one_subset_whatever_the_global_generator_is() -> None:
    labels = labels_like([50] * 4)
    torch.manual_seed(1)
    first = draw_subset(labels, 30, seed=5)
    torch.manual_seed(2)
    assert torch.equal(draw_subset(labels, 30, seed=5), first)


def test_golden_subset() -> None:
    """The draw is part of every result's identity: it may change only with the kind's numerics."""
    assert draw_subset(labels_like([20] * 3), 6, seed=20_000_000).tolist() == [0, 10, 19, 21, 23, 35]


def test_seeds_give_different_subsets() -> None:
    labels = labels_like([100] * 10)
    drawn = {tuple(draw_subset(labels, 20, seed).tolist()) for seed in range(200)}
    assert len(drawn) == 200


def test_sizes_are_drawn_independently() -> None:
    labels = labels_like([100] * 10)
    small, large = (set(draw_subset(labels, images, seed=3).tolist()) for images in (100, 200))
    # 20 of the small subset's images are expected in the large one; all 100 would be a nested draw
    assert len(small & large) < 50


@pytest.mark.parametrize("images", [0, 1, 9, 1001, -2])
def test_sizes_that_cannot_be_are_refused(digits: Dataset, images: int) -> None:
    values = ("10 labels", "1000 images", f" {images}")
    with refused(Code.IMPOSSIBLE_TRIAL, *values, kind=InvalidRequest, key="images"):
        draw_subset(digits.train.labels_N, images, seed=1)


def test_every_image_of_a_label_is_as_likely_as_any_other() -> None:
    """Chi-square over 3,000 fixed seeds, within each label; the draw must not prefer early images."""
    labels = labels_like([8, 12, 40])
    drawn = torch.zeros(len(labels))
    for seed in range(3000):
        drawn[draw_subset(labels, 9, seed)] += 1
    assert (drawn > 0).all(), "every image can be drawn"
    for label in range(3):
        assert stats.chisquare(drawn[labels == label].numpy()).pvalue > 0.001


def test_the_images_beyond_one_a_label_follow_the_set_s_own_proportions() -> None:
    """After the three guaranteed images, six more are drawn from the 57 others, by how many each label has left."""
    labels = labels_like([8, 12, 40])
    counts = torch.zeros(3)
    for seed in range(2000):
        counts += torch.bincount(labels[draw_subset(labels, 9, seed)], minlength=3)
    extra = counts / 2000 - 1
    # 6 of 7, 11 and 39 other images; the guaranteed image is the first of its label, so rare labels' others come later
    simulated = _extra_by_simulation(labels, 9)
    assert torch.allclose(extra, simulated, atol=0.12)


def _extra_by_simulation(labels: Tensor, images: int) -> Tensor:
    """A naive implementation of the docstring's rule (first of each label, then the earliest others)."""
    counts = torch.zeros(3)
    for seed in range(2000):
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed + 10**6)).tolist()
        first: dict[int, int] = {}
        for i in order:
            first.setdefault(int(labels[i]), i)
        others = [i for i in order if i not in first.values()][: images - len(first)]
        counts += torch.bincount(labels[torch.tensor([*first.values(), *others])], minlength=3)
    return counts / 2000 - 1


@pytest.mark.parametrize("counts", [[40, 30, 20], [1, 60, 60], [5] * 12])
def test_it_is_what_the_released_code_takes_of_the_same_order(counts: list[int]) -> None:
    """The rule of the released code (docs/decisions/released-code.md).

    An image is taken while more images are to be chosen than labels are missing, or if its label is missing.
    """
    labels = labels_like(counts)
    for images in range(len(counts), len(labels)):
        order = torch.randperm(len(labels), generator=generator(images, Purpose.SUBSET, images)).tolist()
        taken: list[int] = []
        missing = set(range(len(counts)))
        for i in order:
            if images - len(taken) > len(missing) or int(labels[i]) in missing:
                taken.append(i)
                missing.discard(int(labels[i]))
            if len(taken) == images:
                break
        assert draw_subset(labels, images, seed=images).tolist() == sorted(taken)


def test_digest_is_over_little_endian_64_bit_indices() -> None:
    expected = hashlib.sha256(b"\x01" + b"\0" * 7 + b"\x00\x01" + b"\0" * 6).hexdigest()
    assert subset_digest(torch.tensor([1, 256])) == expected
    assert subset_digest(torch.tensor([256, 1])) != expected
