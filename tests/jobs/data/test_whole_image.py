"""Whole images on disk: files, the handling of damaged ones, limits, and when a trial reads them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from jobs.catalog.catalog import Cards, Catalog
from jobs.catalog.dataset_card import DatasetCard
from jobs.data import resize as resized_module
from jobs.data.datasets import cached_dataset, load_dataset
from jobs.data.describe import describe
from jobs.data.low_pass import Degradation
from jobs.data.raw import MOST_ASPECT, FolderPart, RawPart
from jobs.data.whole_image import WholeImages, whole
from jobs.errors import Code, DamagedFile, StorageFailure
from jobs.kinds.finetune.preprocessing import crops_whole
from jobs.system.memory import Memory
from tests.jobs.data import made
from tests.jobs.support import damage, finetune_spec
from tests.support import refused

SIZES = [(70, 40), (30, 90), (33, 33)]


@pytest.fixture
def part(tmp_path: Path) -> FolderPart:
    images = {f"{i}.png": made.image_bytes(*size, seed=i) for i, size in enumerate(SIZES)}
    folder = made.write(tmp_path / "images", images)
    return FolderPart(tuple(folder / name for name in images), np.zeros(3, np.int64), colour=True)


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resized_module, "_IN_MEMORY_BYTES", 0)


@pytest.fixture
def card(tmp_path: Path) -> DatasetCard:
    cached_dataset.cache_clear()
    return describe(made.write(tmp_path / "insects", made.folder_files()), "insects").card


def files() -> list[Path]:
    directory = resized_module._directory()
    return sorted(path for path in directory.iterdir() if path.suffix != ".lock") if directory.is_dir() else []


def all_crops(images: WholeImages) -> torch.Tensor:
    """Return the crops at every position along the longer side of each image, which cover all of its bytes."""
    found = []
    for index in range(len(images)):
        places = int(images.beside(torch.tensor([index]))) + 1
        found.append(
            images.crops(torch.full((places,), index), torch.arange(places), torch.zeros(places, dtype=torch.int64))
        )
    return torch.cat(found)


@pytest.mark.usefixtures("on_disk")
def test_in_memory_and_on_disk_are_the_same(part: FolderPart, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = whole(part, 32, "x", Degradation())
    assert [path.name.split("-")[0] for path in files()] == ["x.whole"]
    monkeypatch.setattr(resized_module, "_IN_MEMORY_BYTES", 1 << 30)
    assert torch.equal(all_crops(stored), all_crops(whole(part, 32, "y", Degradation())))
    assert len(files()) == 1


@pytest.mark.usefixtures("on_disk")
def test_a_file_is_written_once_and_read_afterwards(part: FolderPart, monkeypatch: pytest.MonkeyPatch) -> None:
    first = all_crops(whole(part, 32, "x", Degradation()))
    monkeypatch.setattr(FolderPart, "image", lambda *_: pytest.fail("decoded again"))
    assert torch.equal(all_crops(whole(part, 32, "x", Degradation())), first)


@pytest.mark.usefixtures("on_disk")
def test_a_file_that_is_damaged_is_made_again(part: FolderPart) -> None:
    images = whole(part, 32, "x", Degradation(), lambda: part)
    first = all_crops(images)
    (path,) = files()
    damage(path, 5000)
    with pytest.warns(UserWarning, match=r"x\.whole-.*\.npy is damaged"):
        assert torch.equal(all_crops(images), first)


@pytest.mark.usefixtures("on_disk")
def test_images_that_changed_between_their_sizes_and_their_pixels_are_refused(
    part: FolderPart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FolderPart, "size", lambda self, index: (60, 30))
    with refused(Code.DAMAGED_DATA, "changed", part.paths[0], kind=DamagedFile, file=part.paths[0]):
        whole(part, 32, "x", Degradation())
    assert files() == []


@pytest.mark.usefixtures("on_disk")
def test_images_that_fit_nowhere_are_refused(part: FolderPart, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTASWEEP_CACHE_GB", "0.000001")
    monkeypatch.setattr("jobs.data.resize.machine_memory", lambda: Memory(1000, 10**12))
    with refused(Code.STORAGE, "images of my-set take", kind=StorageFailure, key="$DELTASWEEP_CACHE_GB"):
        whole(part, 32, "my-set-0123456789abcdef-train", Degradation())


@pytest.mark.parametrize("turned", [False, True])
def test_a_panorama_has_a_bound(tmp_path: Path, turned: bool) -> None:
    """Otherwise a line of pixels would become 3 GB."""

    def part_of(longer: int, shorter: int) -> FolderPart:
        image = Image.new("L", (shorter, longer) if turned else (longer, shorter), 7)
        file = io.BytesIO()
        image.save(file, "PNG")
        (tmp_path / "a.png").write_bytes(file.getvalue())
        return FolderPart((tmp_path / "a.png",), np.zeros(1, np.int64), colour=False)

    longest = whole(part_of(2 * MOST_ASPECT, 2), 8, "x", Degradation())
    assert longest.beside(torch.tensor([0])).tolist() == [8 * MOST_ASPECT - 8]
    assert all_crops(longest).unique().tolist() == [7]  # type: ignore[no-untyped-call]  # untyped in torch
    path = tmp_path / "a.png"
    with refused(Code.DAMAGED_DATA, MOST_ASPECT, path, "crop: centre-square", kind=DamagedFile, file=path):
        whole(part_of(2 * MOST_ASPECT + 1, 2), 8, "x", Degradation())


def test_no_images_are_no_images() -> None:
    """For example, a dataset whose images are all for testing."""
    part = RawPart(np.zeros((0, 9, 12, 3), np.uint8), np.zeros(0, np.int64))
    images = whole(part, 32, "x", Degradation())
    assert images.shape == (0, 3, 32, 32)
    assert images[:].shape == (0, 3, 32, 32)


def test_images_of_one_size_in_memory_have_it_at_once() -> None:
    part = RawPart(made.random_images(3, 20, 30, 1), np.zeros(3, np.int64))
    assert whole(part, 10, "x", Degradation()).beside(torch.arange(3)).tolist() == [5, 5, 5]


@pytest.mark.usefixtures("on_disk")
def test_a_dataset_has_squares_unless_whole_training_images_are_asked_for(card: DatasetCard) -> None:
    squares, whole_data = load_dataset(card, 16), load_dataset(card, 16, whole_training=True)
    assert isinstance(whole_data.train.images_NCHW, WholeImages)
    assert not isinstance(whole_data.test.images_NCHW, WholeImages)
    assert not isinstance(squares.train.images_NCHW, WholeImages)
    assert whole_data.sha256 == squares.sha256, "the name stands for the same images"
    assert len(files()) == 3
    cached_dataset.cache_clear()
    damage(next(path for path in files() if ".whole-" in path.name), 2000)
    with pytest.warns(UserWarning, match="is damaged"):
        all_crops(load_dataset(card, 16, whole_training=True).train.images_NCHW)  # type: ignore[arg-type]  # WholeImages, because of whole_training
    cached_dataset.cache_clear()


def test_which_trials_crop_whole_images(card: DatasetCard) -> None:
    """Only trials with random crops."""
    colour, grey = card, card.model_copy(update={"name": "grey", "colour": False, "mean": (0.5,), "std": (0.5,)})
    catalog = Catalog(Cards(datasets={"insects": colour, "grey": grey}))

    def crops(**recipe: Any) -> list[bool]:
        return [crops_whole(finetune_spec(recipe, dataset=name), catalog) for name in ("insects", "grey")]

    assert crops(crop="whole-image") == [True, False]
    assert crops(crop="centre-square") == crops() == [False, False]
    assert crops(crop="whole-image", transforms="none") == [False, False]
