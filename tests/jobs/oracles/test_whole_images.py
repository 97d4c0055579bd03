"""Non-square images, from files to the first convolution, compared with torchvision's transforms on PIL images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import functional

from jobs.catalog.catalog import packaged_datasets
from jobs.catalog.dataset_card import DatasetCard
from jobs.data.augmentation import Draws, augment, crops_of_whole, draw
from jobs.data.batches import batch_indices
from jobs.data.datasets import Dataset, cached_dataset, load_dataset
from jobs.data.describe import describe
from jobs.data.low_pass import Degradation, low_pass
from jobs.data.raw import FolderPart
from jobs.data.resize import resized
from jobs.data.whole_image import WholeImages, whole
from jobs.errors import Code, DamagedFile
from jobs.execution.seeding import Purpose, generator
from jobs.kinds.finetune.trial import Finetuning
from jobs.models.weights import SourceWeights
from tests.jobs.oracles import pil
from tests.jobs.support import CPU, finetune_spec, finetuned, numbers
from tests.packaged import packaged_dataset
from tests.support import refused

SIZES = [(60, 40), (40, 61), (48, 48), (90, 31), (33, 34), (35, 34), (20, 300), (224, 149), (64, 70), (66, 64)]
"""Width and height: wide, high, square, nearly square, a panorama."""
S = 32
WHOLE = {"crop": "whole-image"}


def photograph(width: int, height: int, number: int) -> Image.Image:
    image = Image.fromarray(load_sample_images().images[number % 2])
    return image.crop((7 * number, 5 * number, 7 * number + width, 5 * number + height))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty training and ten test images of ten labels; JPEG and PNG."""
    root = tmp_path_factory.mktemp("photographs")
    for part, times in (("train", 2), ("test", 1)):
        for number in range(times * 10):
            label = root / part / f"label{number % 10}"
            label.mkdir(parents=True, exist_ok=True)
            image = photograph(*SIZES[number % 10], number + len(part))
            image.save(label / (f"{number}.jpg" if number % 2 else f"{number}.png"))
    return root


@pytest.fixture(scope="module")
def card(folder: Path) -> DatasetCard:
    return describe(folder, "photographs").card


@pytest.fixture
def known(card: DatasetCard, monkeypatch: pytest.MonkeyPatch) -> DatasetCard:
    """A card registered under its name."""
    cached_dataset.cache_clear()
    monkeypatch.setitem(packaged_datasets(), card.name, card)
    return card


def paths(folder: Path, part: str) -> list[Path]:
    """Return the files in the order of the dataset."""
    return sorted((folder / part).glob("*/*"), key=lambda path: (path.parent.name, path.name))


def corners(draws: Draws, many_N: Tensor, images: list[Image.Image]) -> Draws:
    """Return draws with the corner's row and column in each whole, padded image.

    Along the longer side, the position follows from the last number drawn.
    """
    found = draws.corners_N2.clone()
    for place, (image, drawn) in enumerate(zip(images, many_N.tolist(), strict=True)):
        beside = max(image.size) - min(image.size)
        if beside:
            found[place, int(image.width > image.height)] = drawn % (beside + 9)
    return draws._replace(corners_N2=found)


def cropped_and_augmented(images: list[Image.Image], draws: Draws, size: int = S) -> Tensor:
    """Apply RandomCrop(size, padding=4) and the other transforms, as drawn for each image."""
    done = []
    for place, image in enumerate(images):
        top, left = draws.corners_N2[place].tolist()
        square = functional.crop(functional.pad(image, [4, 4, 4, 4], fill=0), top, left, size, size)
        done.append(pil.augmented(square, draws._replace(corners_N2=torch.full_like(draws.corners_N2, 4)), place))
    return torch.stack([functional.pil_to_tensor(image) for image in done])


def drawn(count: int, rng: torch.Generator) -> tuple[Draws, Tensor]:
    """Return a batch's draws, then the positions along the longer sides."""
    return draw(count, rng), torch.randint(1 << 48, (count,), generator=rng)


# --- a trial ---


def inputs(trial: Finetuning) -> list[Tensor]:
    """Return the bytes given to the network in two epochs: three training batches and the test images, twice."""
    seen: list[Tensor] = []
    trial.network.register_forward_pre_hook(lambda _, args: seen.append(args[0].mul(255).round().to(torch.uint8)))
    trial.advance()
    assert [len(x_NCHW) for x_NCHW in seen] == [8, 8, 4, 10] * 2
    return seen


def trial_of(data: Dataset, weights: SourceWeights, recipe: dict[str, Any] | None = None, **changes: Any) -> Finetuning:
    spec = finetune_spec(WHOLE if recipe is None else recipe, **{"dataset": data.name, "epochs": 2, **changes})
    return Finetuning(spec, weights, data, CPU)


@pytest.mark.usefixtures("known")
def test_a_trial_s_images_are_those_of_the_released_transforms(folder: Path, weights: SourceWeights) -> None:
    """Resize, then RandomCrop with padding over the whole image; Resize and CenterCrop for tests."""
    trial = trial_of(packaged_dataset("photographs", S, whole_training=True), weights)
    files = paths(folder, "train")
    resize, centre = transforms.Resize(S), transforms.CenterCrop(S)
    wanted = []
    for epoch in (1, 2):
        for number, batch in enumerate(batch_indices(20, 8, 7, epoch)):
            images = [resize(Image.open(files[index]).convert("RGB")) for index in trial.subset[batch].tolist()]
            draws, many_N = drawn(len(batch), generator(7, Purpose.AUGMENTATION, epoch, number))
            wanted.append(cropped_and_augmented(images, corners(draws, many_N, images)))
        tests = [centre(resize(Image.open(path).convert("RGB"))) for path in paths(folder, "test")]
        wanted.append(torch.stack([functional.pil_to_tensor(image) for image in tests]))
    for found_NCHW, wanted_NCHW in zip(inputs(trial), wanted, strict=True):
        assert torch.equal(found_NCHW, wanted_NCHW)


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("changes", [{"source": "fmnist_natural"}, {"blocks": 0}, {"blocks": -1}])
def test_neither_source_nor_blocks_change_where_images_are_cropped(
    changes: dict[str, Any], weights: SourceWeights
) -> None:
    data = packaged_dataset("photographs", S, whole_training=True)
    for one, other in zip(inputs(trial_of(data, weights)), inputs(trial_of(data, weights, **changes)), strict=True):
        assert torch.equal(one, other)


@pytest.mark.usefixtures("known")
def test_square_images_are_cropped_alike_and_others_are_not(folder: Path, weights: SourceWeights) -> None:
    whole_data, squares = (packaged_dataset("photographs", S, whole_training=whole) for whole in (True, False))
    one, other = trial_of(whole_data, weights), trial_of(squares, weights, {})
    assert one.spec.trial_id != other.spec.trial_id
    files = paths(folder, "train")
    alike: dict[bool, list[bool]] = {}
    for batch in one.batches:
        pairs = zip(one.training_images(batch), other.training_images(batch), strict=True)
        for index, (mine, theirs) in zip(one.subset[batch].tolist(), pairs, strict=True):
            width, height = transforms.Resize(S)(Image.open(files[index])).size
            alike.setdefault(width == height, []).append(torch.equal(mine, theirs))
        one.batch = other.batch = one.batch + 1
    assert all(alike[True])
    assert len(alike[True]) == 6, "once they are resized"
    assert not any(alike[False])


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("mode", ["calibrated", "source"])
def test_what_is_not_cropped_at_random_is_the_centre(mode: str, weights: SourceWeights) -> None:
    """Without transforms no image is cropped at random; statistics are calibrated on images without augmentation."""
    whole_data, squares = (packaged_dataset("photographs", S, whole_training=whole) for whole in (True, False))
    assert torch.equal(whole_data.train.images_NCHW[:], squares.train.images_NCHW[:])
    chosen = torch.tensor([7, 0, 19])
    assert torch.equal(whole_data.train.images_NCHW[chosen], squares.train.images_NCHW[chosen])
    recipe = {"frozen_batchnorm": mode, "transforms": "none"}
    same = [
        numbers(finetuned(finetune_spec({**recipe, **crop}, dataset="photographs", epochs=1), weights, squares))
        for crop in ({}, WHOLE)
    ]
    assert same[0] == same[1]
    by_whole, by_square = (
        trial_of(whole_data, weights, {**WHOLE, "frozen_batchnorm": mode}),
        trial_of(squares, weights, {"frozen_batchnorm": mode}),
    )
    for trial in (by_whole, by_square):
        trial.calibrate()
    assert by_whole.network.trunk_digest(8) == by_square.network.trunk_digest(8)


@pytest.mark.usefixtures("known")
def test_a_pause_at_every_batch_changes_no_crop(weights: SourceWeights) -> None:
    data = packaged_dataset("photographs", S, whole_training=True)
    trial = trial_of(data, weights)
    while not trial.done:
        answers = iter([False, True])
        trial.advance(answers.__next__)
    assert numbers(trial) == numbers(finetuned(trial.spec, weights, data))


# --- crops ---


def of_files(folder: Path, size: int = S, colour: bool = True, lost: Degradation | None = None) -> WholeImages:
    part = FolderPart(tuple(paths(folder, "train")), np.zeros(20, np.int64), colour)
    return whole(part, size, "x", lost or Degradation())


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("size", [16, 32, 224])
@pytest.mark.parametrize("edge", ["first", "last", "middle"])
def test_every_place_of_a_crop(folder: Path, edge: str, size: int, colour: bool) -> None:
    """From the first corner of the padded image to the last one; also for grey images."""
    images = of_files(folder, size, colour)
    mode = "RGB" if colour else "L"
    resized = [transforms.Resize(size)(Image.open(path).convert(mode)) for path in paths(folder, "train")]
    beside = [max(image.size) - min(image.size) for image in resized]
    along = [{"first": 0, "last": more + 8, "middle": (more + 8) // 2}[edge] for more in beside]
    across = {"first": 8, "last": 0, "middle": 4}[edge]
    wanted = []
    for image, place in zip(resized, along, strict=True):
        top, left = (across, place) if image.width > image.height else (place, across)
        square = functional.crop(functional.pad(image, [4, 4, 4, 4], fill=0), top, left, size, size)
        wanted.append(functional.pil_to_tensor(square))
    found = images.crops(torch.arange(20), torch.tensor(along) - 4, torch.full((20,), across - 4))
    assert torch.equal(found, torch.stack(wanted))
    assert torch.equal(images.beside(torch.arange(20)), torch.tensor(beside))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(3, 20), st.integers(0, 2**31))
def test_any_size(width: int, height: int, size: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, height, width, 3), dtype=np.uint8)

    class Part:
        labels_N = np.zeros(4, np.int64)
        channels = 3

        def image(self, index: int) -> Image.Image:
            return Image.fromarray(pixels[index])

        def size(self, index: int) -> tuple[int, int]:
            return width, height

    rng = torch.Generator().manual_seed(seed)
    draws, many_N = drawn(4, rng)
    resized = [transforms.Resize(size)(Part().image(i)) for i in range(4)]
    wanted = cropped_and_augmented(resized, corners(draws, many_N, resized), size)
    rng = torch.Generator().manual_seed(seed)
    found, left = crops_of_whole(whole(Part(), size, "x", Degradation()), torch.arange(4), draw(4, rng), rng)
    assert torch.equal(augment(found, left), wanted)


def test_crops_are_distributed_as_torchvision_s(folder: Path) -> None:
    """All positions along the longer side are equally frequent, including those in the border."""
    images = of_files(folder)
    index = paths(folder, "train").index(folder / "train/label0/0.png")
    beside = int(images.beside(torch.tensor([index])))
    assert beside == 16
    rng, count = torch.Generator().manual_seed(1), 20_000
    along: list[int] = []
    before = WholeImages.crops

    def noted(self: WholeImages, images_N: Tensor, along_N: Tensor, across_N: Tensor) -> Tensor:
        along.extend(along_N.tolist())
        return before(self, images_N[:1], along_N[:1], across_N[:1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WholeImages, "crops", noted)
        crops_of_whole(images, torch.full((count,), index), draw(count, rng), rng)
    counts = torch.tensor(along).add(4).bincount()
    places = 32 + 16 + 8 - 32 + 1  # torchvision's RandomCrop.get_params: padded width - width + 1
    assert len(counts) == places
    assert float(((counts - count / places) ** 2 / (count / places)).sum()) < 60, "chi square of 24 degrees of freedom"


# --- less texture ---


@pytest.mark.parametrize("low", [5, 20, 40])
def test_low_resolution_that_keeps_the_aspect(folder: Path, card: DatasetCard, low: int) -> None:
    """Resize twice, then crop; today's variants cut the centre square first."""
    fields = {"low_resolution": low}
    kept = DatasetCard(**{**card.model_dump(), **fields, "aspect": "kept"})
    square = DatasetCard(**{**card.model_dump(), **fields})
    steps = [transforms.Resize(low), transforms.Resize(S), transforms.CenterCrop(S), transforms.PILToTensor()]
    released = transforms.Compose(steps)
    cut_first = transforms.Compose([steps[0], transforms.CenterCrop(low), *steps[1:]])
    for variant, wanted in ((kept, released), (square, cut_first)):
        for whole_training in (False, True):
            data = load_dataset(variant, S, whole_training=whole_training)
            for part, images in (("train", data.train.images_NCHW), ("test", data.test.images_NCHW)):
                expected = [wanted(Image.open(path).convert("RGB")) for path in paths(folder, part)]
                assert torch.equal(images[:], torch.stack(expected))
    images = of_files(folder, lost=Degradation(low_resolution=low, aspect_kept=True))
    for index, path in enumerate(paths(folder, "train")):
        image = transforms.Resize(S)(transforms.Resize(low)(Image.open(path).convert("RGB")))
        assert int(images.beside(torch.tensor([index]))) == max(image.size) - S
        left, top = image.width - S, image.height - S
        along = torch.tensor([max(left, top)])
        found = images.crops(torch.tensor([index]), along, torch.zeros(1, dtype=torch.int64))
        assert torch.equal(found[0], functional.pil_to_tensor(functional.crop(image, top, left, S, S)))


@pytest.mark.parametrize("aspect", ["kept", "square"])
def test_a_low_pass_of_whole_images(folder: Path, card: DatasetCard, aspect: str) -> None:
    """If the aspect is kept, all parts are filtered and then cropped, so that they differ by their crops alone."""
    filtered = DatasetCard(**{**card.model_dump(), "low_pass": 0.4, "aspect": aspect})
    assert (filtered.shown_digest("0" * 64) == card.model_copy(update={"low_pass": 0.4}).shown_digest("0" * 64)) == (
        aspect == "square"
    )

    def expected(path: Path, whole_first: bool) -> Tensor:
        image = transforms.Resize(S)(Image.open(path).convert("RGB"))
        if not whole_first:
            return torch.from_numpy(low_pass(functional.pil_to_tensor(transforms.CenterCrop(S)(image)).numpy(), 0.4))
        whole_CHW = torch.from_numpy(low_pass(functional.pil_to_tensor(image).numpy(), 0.4))
        return transforms.CenterCrop(S)(whole_CHW)  # type: ignore[no-any-return]  # untyped in torchvision

    for whole_training in (False, True):
        data = load_dataset(filtered, S, whole_training=whole_training)
        for part, images in (("train", data.train.images_NCHW), ("test", data.test.images_NCHW)):
            whole_first = aspect == "kept" or (whole_training and part == "train")
            wanted = [expected(path, whole_first) for path in paths(folder, part)]
            assert torch.equal(images[:], torch.stack(wanted))


def test_lines_are_not_filtered_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (2, 129)).save(path)
    part = FolderPart((path,), np.zeros(1, np.int64), colour=True)
    assert resized(part, 8, "x", Degradation(low_pass=0.5)).shape == (1, 3, 8, 8)
    with refused(Code.DAMAGED_DATA, "2 x 129 pixels", path, "`aspect: square`", kind=DamagedFile, file=path):
        resized(part, 8, "x", Degradation(low_pass=0.5, aspect_kept=True))


def test_a_low_pass_of_a_whole_image_has_the_same_border_in_cycles_a_pixel() -> None:
    """Frequencies up to a quarter of a cycle per pixel are kept, in both directions of a non-square image."""
    columns = np.arange(48)
    for cycles, stays in ((12, True), (13, False)):  # of 48 pixels; the limit for half of the frequencies is 12
        row = 128 + 100 * np.cos(2 * np.pi * cycles * columns / 48)
        image = np.rint(np.broadcast_to(row, (1, 16, 48))).astype(np.uint8)
        for turned in (image, image.transpose(0, 2, 1)):
            assert (np.ptp(low_pass(turned, 0.5)) > 150) == stays


def test_a_whole_image_is_filtered_before_it_is_cropped(folder: Path) -> None:
    images = of_files(folder, lost=Degradation(low_pass=0.4))
    for index in (0, 3, 12):
        image = transforms.Resize(S)(Image.open(paths(folder, "train")[index]).convert("RGB"))
        filtered = low_pass(np.asarray(image).transpose(2, 0, 1), 0.4)
        found = images.crops(torch.tensor([index]), torch.tensor([0]), torch.tensor([0]))
        assert np.array_equal(found[0].numpy(), filtered[:, :S, :S])
