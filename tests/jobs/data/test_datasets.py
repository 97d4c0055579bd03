"""Reading datasets: the digits of scikit-learn, generated IDX files, and the real Fashion-MNIST."""

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from jobs.catalog.catalog import PACKAGED, packaged_datasets
from jobs.data import idx
from jobs.data.datasets import Dataset, cached_dataset
from jobs.data.locate import find, own_directory, require
from jobs.data.raw import RawPart, content_digest
from jobs.errors import Code, DamagedFile, InvalidRequest, MissingData
from tests.jobs.data.made import idx_bytes, use
from tests.machine import fashion_mnist
from tests.packaged import packaged_dataset
from tests.support import refused


@pytest.fixture(autouse=True)
def _no_cache() -> None:
    cached_dataset.cache_clear()


IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


# --- IDX ---


def test_idx_plain(tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(idx_bytes(IMAGES))
    read = idx.read(path)
    assert read.dtype == np.uint8
    assert np.array_equal(read, IMAGES)


def test_idx_gzipped(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx_bytes(IMAGES)))
    assert np.array_equal(idx.read(path), IMAGES)


def test_idx_sizes_are_four_bytes_each(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    labels = np.arange(70_000) % 251
    path.write_bytes(idx_bytes(labels))
    assert np.array_equal(idx.read(path), labels)


@pytest.mark.parametrize("cut", [1, 30, 59, 60, 70])
def test_idx_cut_off(tmp_path: Path, cut: int) -> None:
    """Wherever the file is cut, even within the header, it is reported as damaged."""
    path = tmp_path / "images"
    path.write_bytes(idx_bytes(IMAGES)[:-cut])
    with refused(Code.DAMAGED_DATA, path, kind=DamagedFile, file=path):
        idx.read(path)


def test_idx_with_bytes_too_many(tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(idx_bytes(IMAGES) + b"x")
    with refused(Code.DAMAGED_DATA, path, "3x4x5", 61, kind=DamagedFile, file=path):
        idx.read(path)


@pytest.mark.parametrize("start", [b"", b"\0\0", b"PK\3\4", b"\0\0\x0d\1", b"\1\0\x08\1", b"<html>"])
def test_idx_wrong_magic(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "images"
    path.write_bytes(start + b"\0" * 8 * bool(start))
    with refused(Code.DAMAGED_DATA, path, kind=DamagedFile, file=path):
        idx.read(path)


@pytest.mark.parametrize("keep", [5, 20, -4])
def test_idx_damaged_gzip(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx_bytes(IMAGES))[:keep])
    with refused(Code.DAMAGED_DATA, path, kind=DamagedFile, file=path):
        idx.read(path)


def test_idx_gzip_with_flipped_bits(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(idx_bytes(IMAGES)))
    data[len(data) // 2] ^= 0xFF
    path = tmp_path / "images.gz"
    path.write_bytes(bytes(data))
    with refused(Code.DAMAGED_DATA, path, kind=DamagedFile, file=path):
        idx.read(path)


@pytest.mark.parametrize("name", ["a-idx1-ubyte.gz", "a-idx1-ubyte"])
def test_idx_of_more_than_any_such_file_has(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressed data is not decompressed beyond that limit."""
    monkeypatch.setattr(idx, "_MOST_BYTES", 100_000)
    data = b"\0\0\x08\1" + (10**9).to_bytes(4, "big") + bytes(10**7)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    tracemalloc.start()
    with refused(Code.DAMAGED_DATA, "100,000 bytes", kind=DamagedFile, file=tmp_path / name):
        idx.read(tmp_path / name)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_idx_not_gzip_at_all(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(idx_bytes(IMAGES))
    with refused(Code.DAMAGED_DATA, path, kind=DamagedFile, file=path):
        idx.read(path)


def test_idx_finds_plain_before_gzipped(tmp_path: Path) -> None:
    (tmp_path / "x.gz").touch()
    assert idx.find(tmp_path, "x") == tmp_path / "x.gz"
    (tmp_path / "x").touch()
    assert idx.find(tmp_path, "x") == tmp_path / "x"


def test_idx_missing(tmp_path: Path) -> None:
    with refused(Code.MISSING_DATA, tmp_path, "x.gz", kind=MissingData, file=tmp_path / "x"):
        idx.find(tmp_path, "x")


# --- digits ---


def test_digits_split_is_that_of_the_registry(digits: Dataset) -> None:
    """The digest covers both parts, and so also the split."""
    card = PACKAGED.dataset("digits")
    assert digits.sha256 == card.sha256 == "864a2ed638b7e82ee7269bf9cb67092ccc51ad5791f58cd2256ff1dfa8aac533"
    assert len(digits.train.labels_N) == card.train == 1000
    assert len(digits.test.labels_N) == card.test == 797


def test_digits_parts_are_disjoint_and_complete() -> None:
    small = packaged_dataset("digits", 8)
    whole = sorted(np.rint(image * (255 / 16)).astype(np.uint8).tobytes() for image in load_digits().images)
    parts = [image.numpy().tobytes() for part in (small.train, small.test) for image in part.images_NCHW[:]]
    assert sorted(parts) == whole


def test_digits_keep_their_labels() -> None:
    bunch = load_digits()
    label_of = {
        np.rint(image * (255 / 16)).astype(np.uint8).tobytes(): label
        for image, label in zip(bunch.images, bunch.target, strict=True)
    }
    small = packaged_dataset("digits", 8)
    for part in (small.train, small.test):
        assert [label_of[image.numpy().tobytes()] for image in part.images_NCHW[:]] == part.labels_N.tolist()


def test_digits_are_resized_bytes(digits: Dataset) -> None:
    assert digits.train.images_NCHW.shape == (1000, 1, 32, 32)
    assert digits.test.images_NCHW.shape == (797, 1, 32, 32)
    assert digits.train.images_NCHW[:].dtype == torch.uint8
    assert digits.train.labels_N.dtype == torch.int64
    # full ink stays full ink: the scale is 0 to 255, not 0 to 16
    assert digits.train.images_NCHW[:].max() == 255


def test_digits_statistics_of_the_registry_are_those_of_the_training_images() -> None:
    pixels = packaged_dataset("digits", 8).train.images_NCHW[:].float() / 255
    card = PACKAGED.dataset("digits")
    assert card.mean == pytest.approx((float(pixels.mean()),), abs=5e-4)
    assert card.std == pytest.approx((float(pixels.std()),), abs=5e-4)


def test_digits_take_no_directory(tmp_path: Path) -> None:
    with refused(Code.WRONG_PLACE, tmp_path, kind=InvalidRequest, file=tmp_path):
        packaged_dataset("digits", 32, tmp_path)


def test_another_digest_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    card = PACKAGED.dataset("digits")
    monkeypatch.setitem(packaged_datasets(), "digits", card.model_copy(update={"sha256": "0" * 64}))
    with refused(Code.DAMAGED_DATA, "'digits'", "0" * 64, card.sha256, kind=DamagedFile, key="sha256"):
        packaged_dataset("digits", 32)


# --- what a digest covers ---


def part(images: np.ndarray, labels: list[int]) -> RawPart:
    return RawPart(images, np.array(labels, dtype=np.int64))


def test_content_digest_covers_shape_images_labels_and_split() -> None:
    images = np.arange(16, dtype=np.uint8).reshape(4, 2, 2, 1)
    changed = images.copy()
    changed[3, 1, 1] += 1
    digests = [
        content_digest(part(images, [0, 1, 2, 3])),
        content_digest(part(changed, [0, 1, 2, 3])),
        content_digest(part(images, [0, 1, 3, 2])),
        content_digest(part(images.reshape(4, 4, 1, 1), [0, 1, 2, 3])),
        content_digest(part(images[:2], [0, 1]), part(images[2:], [2, 3])),
        content_digest(part(images[:1], [0]), part(images[1:], [1, 2, 3])),
    ]
    assert len(set(digests)) == len(digests)


def test_content_digest_ignores_memory_layout() -> None:
    images = np.arange(16, dtype=np.uint8).reshape(4, 2, 2, 1)
    assert content_digest(part(np.asfortranarray(images), [0] * 4)) == content_digest(part(images, [0] * 4))


# --- unknown or not available ---


def test_unknown_dataset() -> None:
    with refused(
        Code.UNKNOWN_NAME,
        "'imagenet9'",
        "did you mean imagenet",
        "deltasweep data list",
        kind=InvalidRequest,
        key="dataset",
    ):
        packaged_dataset("imagenet9", 32)


@pytest.mark.parametrize(
    "name", [name for name, card in PACKAGED.datasets.items() if card.files and card.files_of != "fmnist"]
)
def test_datasets_that_are_not_here_say_how_to_get_them(name: str) -> None:
    values = (f"'{name}'", f"deltasweep data fetch {name}")
    with refused(Code.MISSING_DATA, *values, kind=MissingData, file=own_directory(PACKAGED.dataset(name))):
        packaged_dataset(name, 32)


def test_a_study_s_own_dataset_is_fetched_with_its_study() -> None:
    card = PACKAGED.dataset("mnist").model_copy(update={"name": "mine", "of": "mnist"})
    with refused(Code.MISSING_DATA, "run deltasweep data fetch mine --study STUDY", kind=MissingData):
        require(card)


def test_imagenet_is_everybody_s_own_copy(tmp_path: Path) -> None:
    own = tmp_path / "home" / "data" / "imagenet"
    with refused(Code.MISSING_DATA, "'imagenet'", own, "train/LABEL/*", kind=MissingData, file=own):
        packaged_dataset("imagenet", 32)
    for part in ("train", "test"):
        (tmp_path / part / "n01440764").mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / part / "n01440764" / "a.png")
    values = ("'imagenet'", "1,281,167 training and 50,000 test images", "1 and 1")
    with refused(Code.DAMAGED_DATA, *values, kind=DamagedFile, file=tmp_path, key="train"):
        packaged_dataset("imagenet", 32, tmp_path)


def test_sizes_of_table_6() -> None:
    sizes = {name: (card.train, card.test, card.labels, card.colour) for name, card in PACKAGED.datasets.items()}
    assert sizes == {
        "cifar100": (50_000, 10_000, 100, True),
        "cifar10": (50_000, 10_000, 10, True),
        "svhn": (73_257, 26_032, 10, True),
        "fmnist": (60_000, 10_000, 10, False),
        "kmnist": (60_000, 10_000, 10, False),
        "mnist": (60_000, 10_000, 10, False),
        "digits": (1000, 797, 10, False),
        "digits_lowres5": (1000, 797, 10, False),
        "digits_lowpass": (1000, 797, 10, False),
        # Caltech101 is not in Table 6; 101 x 30 for training (Section 5) of 8,677 images
        "caltech101": (3030, 5647, 101, True),
        "caltech101_lowres32": (3030, 5647, 101, True),
        "caltech101_lowres32_aspect": (3030, 5647, 101, True),
        "caltech101_lowpass": (3030, 5647, 101, True),
        "caltech101_lowpass_aspect": (3030, 5647, 101, True),
        # the table counts 150,000 test images; 50,000 of them, the validation set, have published labels
        "imagenet": (1_281_167, 50_000, 1000, True),
        # images of conflicting cues, and Stylized-ImageNet (Geirhos et al. 2019)
        "digits_conflict": (1000, 797, 10, False),
        "fmnist_conflict": (60_000, 10_000, 10, False),
        "stylized-imagenet": (1_281_167, 50_000, 1000, True),
        "cue-conflict": (0, 1280, 16, True),
    }


# --- Fashion-MNIST ---


def write_fashion_mnist(directory: Path, train: int = 6, test: int = 4, test_labels: int | None = None) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name, images, labels in (("train", train, train), ("t10k", test, test if test_labels is None else test_labels)):
        pixels = rng.integers(0, 256, (images, 28, 28), dtype=np.uint8)
        (directory / f"{name}-images-idx3-ubyte").write_bytes(idx_bytes(pixels))
        (directory / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(np.arange(labels) % 3)))


def test_fashion_mnist_of_another_size_is_refused(tmp_path: Path) -> None:
    write_fashion_mnist(tmp_path / "own")
    values = ("'fmnist'", "60,000 training and 10,000 test images", "6 and 4")
    with refused(Code.DAMAGED_DATA, *values, kind=DamagedFile, file=tmp_path / "own", key="train"):
        packaged_dataset("fmnist", 32, tmp_path / "own")


def test_fashion_mnist_with_fewer_labels_than_images_is_refused(tmp_path: Path) -> None:
    write_fashion_mnist(tmp_path / "own", test_labels=3)
    with refused(Code.DAMAGED_DATA, "t10k", (4, 28, 28), (3,), kind=DamagedFile, file=tmp_path / "own"):
        packaged_dataset("fmnist", 32, tmp_path / "own")


def test_fashion_mnist_with_other_images_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fashion_mnist(tmp_path / "own")
    use(monkeypatch, "fmnist", train=6, test=4, sha256=PACKAGED.dataset("fmnist").sha256)
    values = ("'fmnist'", "145c7cc693ba")
    with refused(Code.DAMAGED_DATA, *values, kind=DamagedFile, file=tmp_path / "own", key="sha256"):
        packaged_dataset("fmnist", 32, tmp_path / "own")


def test_fashion_mnist_comes_from_this_machine_s_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fashion_mnist(tmp_path / "home" / "data" / "fmnist")
    use(monkeypatch, "fmnist", train=6, test=4)
    data = packaged_dataset("fmnist", 32)
    assert data.train.images_NCHW.shape == (6, 1, 32, 32)
    assert data.test.labels_N.tolist() == [0, 1, 2, 0]


def test_a_dataset_that_is_fetched_in_part_hides_no_complete_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian, own = tmp_path / "debian", own_directory(PACKAGED.dataset("fmnist"))
    monkeypatch.setattr("jobs.data.locate._DEBIAN", {"fmnist": debian})
    write_fashion_mnist(debian)
    write_fashion_mnist(own)
    card = use(monkeypatch, "fmnist", train=6, test=4)
    assert find(card) == own
    missing = own / "t10k-labels-idx1-ubyte.gz"
    missing.rename(own / f"{missing.name}.part")
    (own / "train-images-idx3-ubyte.gz").write_bytes(b"half")
    assert find(card) == debian
    assert len(packaged_dataset("fmnist", 32).test.labels_N) == 4
    (debian / missing.name).unlink()
    cached_dataset.cache_clear()
    assert find(card) == own
    values, file = (missing.name, "deltasweep data fetch"), missing.with_suffix("")
    with refused(Code.MISSING_DATA, *values, kind=MissingData, file=file):
        packaged_dataset("fmnist", 32)


def test_fashion_mnist_nowhere(tmp_path: Path) -> None:
    values = ("'fmnist'", tmp_path / "nowhere", "deltasweep data fetch fmnist", "dataset-fashion-mnist")
    with refused(Code.MISSING_DATA, *values, kind=MissingData, file=tmp_path / "nowhere"):
        packaged_dataset("fmnist", 32, tmp_path / "nowhere")


def test_fashion_mnist_with_a_file_missing(tmp_path: Path) -> None:
    write_fashion_mnist(tmp_path / "own")
    missing = tmp_path / "own" / "t10k-images-idx3-ubyte"
    missing.unlink()
    values = (missing.name, missing.parent, "deltasweep data fetch")
    with refused(Code.MISSING_DATA, *values, kind=MissingData, file=missing):
        packaged_dataset("fmnist", 32, tmp_path / "own")


def test_the_real_fashion_mnist() -> None:
    data = packaged_dataset("fmnist", 28, fashion_mnist("reading the real Fashion-MNIST"))
    assert data.train.images_NCHW.shape == (60000, 1, 28, 28)
    assert data.test.images_NCHW.shape == (10000, 1, 28, 28)
    assert torch.bincount(data.train.labels_N).tolist() == [6000] * 10
    assert torch.bincount(data.test.labels_N).tolist() == [1000] * 10
    # the first image of the published training set is an ankle boot (label 9)
    assert data.train.labels_N[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
