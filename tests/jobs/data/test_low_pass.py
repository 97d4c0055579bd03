"""Variants with less texture: compared with hand-computed Fourier transforms, PIL and torchvision, and as datasets."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2 as transforms

from jobs.catalog.catalog import PACKAGED
from jobs.catalog.dataset_card import DatasetCard
from jobs.data.locate import find, own_directory
from jobs.data.low_pass import kept_frequencies, low_pass
from jobs.perturbations.fourier import frequencies_of
from tests.jobs.support import finetune_spec
from tests.packaged import packaged_dataset


def wave(cycles: int, size: int = 16) -> np.ndarray:
    """Return a grey image, 1 x S x S, with this many cycles from left to right around a mean of 128."""
    row = 128 + 100 * np.cos(2 * np.pi * cycles * np.arange(size) / size)
    wave_1SS: np.ndarray = np.rint(np.broadcast_to(row, (1, size, size))).astype(np.uint8)
    return wave_1SS


@pytest.mark.parametrize(("cycles", "kept"), [(0, True), (3, True), (4, True), (5, False), (8, False)])
def test_a_wave_is_kept_up_to_the_border_and_gone_above(cycles: int, kept: bool) -> None:
    """Half of the frequencies of 16 pixels: up to 4 cycles."""
    before = wave(cycles)
    after = low_pass(before, 0.5)
    flat = np.full_like(before, 128)
    # rounding the wave to bytes spread a little of it over other frequencies
    assert np.abs(after.astype(int) - (before if kept else flat)).max() <= 1
    assert np.abs(low_pass(before.transpose(0, 2, 1), 0.5).transpose(0, 2, 1).astype(int) - after).max() == 0


def test_as_a_fourier_transform_by_hand() -> None:
    """The transform as a matrix product, frequency by frequency; the larger of the two directions decides."""
    size, share = 8, 32 / 224
    pixels = np.random.default_rng(0).integers(0, 256, (3, size, size), dtype=np.uint8)
    n = np.arange(size)
    matrix = np.exp(-2j * np.pi * np.outer(n, n) / size)
    spectrum = matrix @ pixels.astype(float) @ matrix
    for u in n:
        for v in n:
            if max(min(u, size - u), min(v, size - v)) > (1 - share) * size / 2:
                spectrum[:, u, v] = 0
    expected = (matrix.conj() @ spectrum @ matrix.conj()).real / size**2
    found = low_pass(pixels, share)
    assert np.abs(found - expected.clip(0, 255)).max() <= 0.5 + 1e-9
    assert (found != pixels).any()


def test_the_paper_s_share_at_224_pixels() -> None:
    """32 of 224 in each direction: up to 96 cycles are kept; 97 is removed."""
    assert np.ptp(low_pass(wave(96, 224), 32 / 224)) > 150
    assert np.ptp(low_pass(wave(97, 224), 32 / 224)) <= 2


def test_how_many_frequencies_the_paper_s_share_zeroes() -> None:
    """14 % of each direction are 25.8 % of all (docs/explanation/why/texture.md).

    Bands of attacks are counted the same way.
    """
    kept = kept_frequencies(224, 224, 32 / 224)
    assert (kept.any(0).sum(), kept.any(1).sum(), kept.sum(), kept.size) == (193, 193, 193**2, 224**2)
    assert round(100 * (1 - kept.mean()), 1) == 25.8
    assert 1024 / kept.size == pytest.approx(0.0204, abs=1e-4), "1,024 frequencies are 2 % of all"
    half = frequencies_of(224, (0.0, 1 - 32 / 224), torch.device("cpu"))
    assert np.array_equal(half.numpy(), kept[:, : 224 // 2 + 1])


def test_low_resolution_is_that_of_torchvision() -> None:
    few = packaged_dataset("digits_lowres5", 32)
    original = packaged_dataset("digits", 8)
    there_and_back = transforms.Compose([transforms.Resize(5), transforms.Resize(32), transforms.PILToTensor()])
    for index in (0, 7, 500):
        image = Image.fromarray(original.train.images_NCHW[:][index, 0].numpy())
        assert torch.equal(few.train.images_NCHW[index], there_and_back(image))
    assert torch.equal(few.train.labels_N, original.train.labels_N)


def test_a_low_pass_variant_is_filtered_after_resizing() -> None:
    filtered, digits = packaged_dataset("digits_lowpass", 32), packaged_dataset("digits", 32)
    for index in (0, 7):
        expected = low_pass(digits.test.images_NCHW[index].numpy(), 32 / 224)
        assert np.array_equal(filtered.test.images_NCHW[index].numpy(), expected)


def test_a_variant_is_a_dataset_of_its_own() -> None:
    names = ("digits", "digits_lowres5", "digits_lowpass")
    assert len({packaged_dataset(name, 32).sha256 for name in names}) == 3
    assert packaged_dataset("digits", 32).sha256 == PACKAGED.dataset("digits").sha256
    assert len({finetune_spec(dataset=name).trial_id for name in names}) == 3


def test_a_variant_has_the_files_of_its_original(monkeypatch: pytest.MonkeyPatch) -> None:
    original, variant = PACKAGED.dataset("caltech101"), PACKAGED.dataset("caltech101_lowpass")
    assert own_directory(variant) == own_directory(original)
    assert find(variant) is None
    assert (variant.files, variant.mirrors, variant.mean) == (original.files, original.mirrors, original.mean)
    fields = PACKAGED.dataset("digits").model_dump() | {"name": "both", "low_pass": 0.5, "low_resolution": 5}
    with pytest.raises(ValueError, match="has both"):
        DatasetCard(**fields)
