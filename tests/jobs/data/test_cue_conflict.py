"""Images of conflicting cues: mixed by hand, paired by rule, and read from folders in the layout of Geirhos et al."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from jobs.catalog.catalog import PACKAGED
from jobs.catalog.dataset_card import DatasetCard
from jobs.data.cue_conflict import in_conflict, partners, phases_and_amplitudes
from jobs.data.datasets import load_dataset
from jobs.data.raw import RawPart
from jobs.data.readers import read_raw
from jobs.errors import Code, DamagedFile, MissingData
from jobs.specs.canonical import digest
from tests.jobs.data import made
from tests.packaged import packaged_dataset
from tests.support import refused

# --- computed from a dataset's own images ---


def wave(cycles: int, phase: float, amplitude: float, size: int = 16) -> np.ndarray:
    """Return a grey image, S x S, with this many cycles from left to right around a mean of 128."""
    row = 128 + amplitude * np.cos(2 * np.pi * cycles * np.arange(size) / size + phase)
    return np.rint(np.broadcast_to(row, (size, size))).astype(np.uint8)


def test_a_wave_stays_where_it_is_and_is_as_strong_as_the_other() -> None:
    found = phases_and_amplitudes(wave(3, 0.7, 100), wave(3, 2.0, 40))
    assert np.abs(found.astype(int) - wave(3, 0.7, 40)).max() <= 1


def test_frequencies_come_from_the_texture() -> None:
    """The shape has only 3 cycles, the texture 5: the mixed image has 5, and no longer 3."""
    found = phases_and_amplitudes(wave(3, 0.7, 100), wave(5, 0.0, 60))
    amplitudes = np.abs(np.fft.fft2(found))[0] / found.size
    assert amplitudes[5] == pytest.approx(30, abs=1)
    assert amplitudes[3] < 1


def test_as_a_fourier_transform_by_hand() -> None:
    """The transform as a matrix product, for each channel separately."""
    size, rng = 8, np.random.default_rng(0)
    shape, texture = rng.integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    n = np.arange(size)
    matrix = np.exp(-2j * np.pi * np.outer(n, n) / size)
    spectra = [np.einsum("uh,hwc,vw->uvc", matrix, image.astype(float), matrix) for image in (shape, texture)]
    mixed = np.abs(spectra[1]) * np.exp(1j * np.angle(spectra[0]))
    expected = np.einsum("uh,uvc,vw->hwc", matrix.conj(), mixed, matrix.conj()).real / size**2
    found = phases_and_amplitudes(shape, texture)
    assert np.abs(found - expected.clip(0, 255)).max() <= 0.5 + 1e-9
    assert (found != shape).any()
    assert (found != texture).any()


def test_an_image_with_itself_is_itself() -> None:
    image = made.random_images(1, 9, 9, 3)[0]
    assert np.array_equal(phases_and_amplitudes(image, image), image)


def test_partners_by_hand() -> None:
    """Three labels: the images of each label take textures of the other two in turn."""
    labels = np.array([0, 1, 0, 2, 1, 0, 2])
    # label 0 (images 0, 2, 5) takes labels 1, 2, 1: image 0 of label 1, image 1 of label 2, and image 2, which wraps to
    # 0, of label 1
    assert partners(labels)[[0, 2, 5]].tolist() == [1, 6, 1]
    assert partners(labels)[[1, 4]].tolist() == [3, 2]
    assert partners(labels)[[3, 6]].tolist() == [0, 4]


def test_every_pair_of_labels_comes_equally_often() -> None:
    labels = np.repeat(np.arange(5), 8)
    pairs = np.stack([labels, labels[partners(labels)]])
    counts = np.zeros((5, 5), int)
    np.add.at(counts, tuple(pairs), 1)
    assert counts.tolist() == (2 * (1 - np.eye(5, dtype=int))).tolist()


def test_one_label_cannot_conflict() -> None:
    with refused(Code.DAMAGED_DATA, " 1", kind=DamagedFile):
        partners(np.zeros(3, np.int64))


def test_images_are_mixed_at_the_network_s_size() -> None:
    part = RawPart(made.random_images(4, 8, 8, 1), np.array([0, 1, 0, 1]))
    mixed = in_conflict(part, 32)
    sized = [np.asarray(part.image(i).resize((32, 32), Image.Resampling.BILINEAR)) for i in range(4)]
    assert mixed.partners_N.tolist() == [1, 0, 3, 2]
    assert mixed.textures_N.tolist() == [1, 0, 1, 0]
    assert np.array_equal(np.asarray(mixed.image(2)), phases_and_amplitudes(sized[2], sized[3]))


def test_a_dataset_of_digits_in_conflict() -> None:
    digits, mixed = packaged_dataset("digits", 32), packaged_dataset("digits_conflict", 32)
    assert torch.equal(mixed.train.images_NCHW[:], digits.train.images_NCHW[:]), "training images are as they were"
    assert torch.equal(mixed.test.labels_N, digits.test.labels_N)
    assert mixed.cues is not None
    assert mixed.cues.names == tuple("0123456789")
    other = partners(digits.test.labels_N.numpy())
    assert torch.equal(mixed.cues.textures_N, digits.test.labels_N[other])
    assert not (mixed.cues.textures_N == mixed.test.labels_N).any()
    expected = phases_and_amplitudes(*(digits.test.images_NCHW[i, 0].numpy() for i in (5, other[5])))
    assert np.array_equal(mixed.test.images_NCHW[5, 0].numpy(), expected)
    assert digits.cues is None
    assert len({packaged_dataset(name, 32).sha256 for name in ("digits", "digits_conflict", "digits_lowpass")}) == 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"low_pass": 0.5}, "cue_conflict, or low_resolution or low_pass; .* has both"),
        ({"low_resolution": 5}, "cue_conflict, or low_resolution or low_pass; .* has both"),
        ({"labels": 1}, "at least two labels.*has 1 labels"),
        ({"cue_conflict": "style"}, "Input should be 'fourier'"),
    ],
)
def test_variants_that_cannot_be(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        DatasetCard(**{**PACKAGED.dataset("digits_conflict").model_dump(), **changes})


# --- read from a folder ---

FILES = {
    "bear/bear1-cat2.png": made.image_bytes(30, 30, seed=1),
    "bear/bear2-bear10.png": made.image_bytes(30, 30, seed=2),
    "cat/cat10-oven1.png": made.image_bytes(30, 30, seed=3),
    "oven/oven1-bear3.png": made.image_bytes(30, 30, seed=4),
    "oven/oven3-cat1.png": made.image_bytes(30, 30, seed=5),
}


def card(folder: Path, **changes: object) -> DatasetCard:
    fields = {"name": "mine", "train": 0, "test": 5, "labels": 3, "colour": True, "format": "cue-conflict", **changes}
    return DatasetCard(**{"mean": (0.5,) * 3, "std": (0.25,) * 3, "folder": str(folder), **fields})


def test_shapes_are_folders_and_textures_stand_in_names(tmp_path: Path) -> None:
    raw = read_raw(card(made.write(tmp_path, FILES)))
    assert raw.names == ("bear", "cat", "oven")
    assert raw.test.labels_N.tolist() == [0, 0, 1, 2, 2]
    assert raw.textures_N is not None
    assert raw.textures_N.tolist() == [1, 0, 2, 0, 1]
    assert len(raw.train.labels_N) == 0
    with Image.open(tmp_path / "cat/cat10-oven1.png") as image:
        assert raw.test.image(2).tobytes() == image.tobytes()


def textures(tmp_path: Path, *files: str) -> list[str]:
    """Return the names of the textures of images with these names, in their order."""
    labels = {file.split("/")[0] for file in files}
    raw = read_raw(
        card(
            made.write(tmp_path, {file: made.image_bytes(9, 9, seed=1) for file in files}),
            test=len(files),
            labels=len(labels),
        )
    )
    assert raw.textures_N is not None
    return [raw.names[texture] for texture in raw.textures_N]


def test_labels_that_end_in_digits(tmp_path: Path) -> None:
    """WordNet ids: the number of the image follows without a separator."""
    files = ("n01440764/n014407641-n014435372.png", "n01443537/n0144353712-n01440764.png")
    assert textures(tmp_path, *files) == ["n01443537", "n01440764"]


def test_the_longest_label_that_leaves_a_number_is_the_texture(tmp_path: Path) -> None:
    files = ("a1/a1-a12.png", "a12/a12-a123.png", "a12/a121-a1.png", "b/b1-a129.png")
    assert textures(tmp_path, *files) == ["a12", "a12", "a1", "a12"]


def test_labels_that_could_be_read_before_are_read_the_same(tmp_path: Path) -> None:
    """Without the digits at its end, ``cat21`` is a label; so it is the 21st cat."""
    files = ("1/1-12.png", "12/12-1.png", "cat/cat1-cat21.png", "cat2/cat2-cat2.png")
    assert textures(tmp_path, *files) == ["1", "1", "cat", "cat"]


def test_as_a_dataset(tmp_path: Path) -> None:
    data = load_dataset(card(made.write(tmp_path, FILES)), 32)
    assert data.train.images_NCHW.shape == (0, 3, 32, 32)
    assert data.test.images_NCHW.shape == (5, 3, 32, 32)
    assert data.cues is not None
    assert data.cues.names == ("bear", "cat", "oven")
    assert data.cues.textures_N.tolist() == [1, 0, 2, 0, 1]


def test_the_digest_covers_names(tmp_path: Path) -> None:
    renamed = {("oven/oven3-bear1.png" if "oven3" in name else name): content for name, content in FILES.items()}
    folders = [made.write(tmp_path / name, files) for name, files in (("a", FILES), ("b", renamed), ("c", FILES))]
    first, other, again = (read_raw(card(folder)).sha256 for folder in folders)
    assert first == again != other


@pytest.mark.parametrize(
    ("extra", "file", "values"),
    [
        ({"bear/cat1-bear1.png": b""}, "bear/cat1-bear1.png", ("bear, cat, oven", "SHAPE/SHAPEn-TEXTUREm.png")),
        ({"bear/bear1-dog1.png": b""}, "bear/bear1-dog1.png", ("bear, cat, oven", "SHAPE/SHAPEn-TEXTUREm.png")),
        ({"bear/bear1.png": b""}, "bear/bear1.png", ("bear, cat, oven", "SHAPE/SHAPEn-TEXTUREm.png")),
        ({"bear/notes.txt": b""}, "bear/notes.txt", (".png, ",)),
        ({"README.md": b""}, "README.md", ()),
        ({"dog/.hidden": b""}, "dog", ()),
    ],
)
def test_what_is_no_such_folder(extra: dict[str, bytes], file: str, values: tuple[str, ...], tmp_path: Path) -> None:
    place = tmp_path / file
    with refused(Code.DAMAGED_DATA, place.parent, place.name, *values, kind=DamagedFile, file=place):
        read_raw(card(made.write(tmp_path, FILES | extra)))


@pytest.mark.parametrize(
    ("changes", "values"),
    [
        ({"test": 6}, ("'mine'", "0 training and 6 test images", "0 and 5")),
        (
            {"labels": 4},
            ("'mine'", "4 labels from 0 to 3", "none in the training set", "3 in the test set, from 0 to 2"),
        ),
        ({"label_names": "0" * 64}, ("'mine'", "3 labels", "0" * 64, "bear to oven", digest(["bear", "cat", "oven"]))),
    ],
)
def test_a_folder_that_is_not_as_its_card_says(
    changes: dict[str, object], values: tuple[object, ...], tmp_path: Path
) -> None:
    (key,) = changes
    with refused(Code.DAMAGED_DATA, *values, kind=DamagedFile, file=tmp_path, key=key):
        read_raw(card(made.write(tmp_path, FILES), **changes))


def test_names_are_held_against_the_card(tmp_path: Path) -> None:
    names = digest(["bear", "cat", "oven"])
    assert read_raw(card(made.write(tmp_path, FILES), label_names=names)).names == ("bear", "cat", "oven")


def test_the_published_images_are_everybody_s_own_copy(tmp_path: Path) -> None:
    own = tmp_path / "home" / "data" / "cue-conflict"
    values = ("'cue-conflict'", own, "SHAPE/SHAPEn-TEXTUREm.png")
    with refused(Code.MISSING_DATA, *values, kind=MissingData, file=own):
        packaged_dataset("cue-conflict", 32)
    nowhere = tmp_path / "nowhere"
    with refused(Code.MISSING_DATA, "'mine'", nowhere, "`folder`", kind=MissingData, file=nowhere, key="folder"):
        read_raw(card(nowhere))
    folder = made.write(tmp_path / "few", FILES)
    with refused(
        Code.DAMAGED_DATA,
        "'cue-conflict'",
        "0 training and 1,280 test images",
        "0 and 5",
        kind=DamagedFile,
        file=folder,
        key="test",
    ):
        packaged_dataset("cue-conflict", 32, folder)


# --- Stylized-ImageNet ---


def test_a_folder_may_have_val_instead_of_test(tmp_path: Path) -> None:
    """The layout of Stylized-ImageNet by Geirhos et al.: train/WNID/*.png and val/WNID/*.png."""
    files = {name.replace("test/", "val/"): content for name, content in made.folder_files().items()}
    mine = DatasetCard(
        name="mine",
        train=9,
        test=3,
        labels=3,
        colour=True,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        folder=str(made.write(tmp_path, files)),
    )
    raw = read_raw(mine)
    assert raw.names == ("ant", "bee", "cat")
    assert raw.test.labels_N.tolist() == [0, 1, 2]
    made.write(tmp_path, {"test/bee/0.png": files["val/ant/0.png"]})
    assert read_raw(mine.model_copy(update={"test": 1})).test.labels_N.tolist() == [1], "test comes before val"


def test_stylized_imagenet_has_the_labels_of_imagenet_in_wordnet_s_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three labels represent a thousand. Names in another sort order are other labels, even if there are as many."""
    wordnet = ["n01440764", "n01443537", "n01484850"]
    small = made.use(monkeypatch, "stylized-imagenet", train=3, test=3, label_names=digest(wordnet))
    images = [made.image_bytes(20, 20, seed=seed) for seed in range(3)]

    def folder(name: str, labels: list[str]) -> Path:
        parts = {
            f"{part}/{x}/a.png": image for part in ("train", "val") for x, image in zip(labels, images, strict=True)
        }
        return made.write(tmp_path / name, parts)

    assert read_raw(small, folder("right", wordnet)).names == tuple(wordnet)
    values = (digest(wordnet), "goldfish to tench", digest(["goldfish", "shark", "tench"]))
    with refused(Code.DAMAGED_DATA, *values, kind=DamagedFile, key="label_names"):
        read_raw(small, folder("words", ["tench", "goldfish", "shark"]))
