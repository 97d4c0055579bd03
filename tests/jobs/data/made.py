"""Small datasets in the real formats, and cards with their digests."""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import scipy.io
from PIL import Image

from jobs.catalog.catalog import PACKAGED, packaged_datasets
from jobs.catalog.dataset_card import DataFile, DatasetCard

LABELS = 3


def silent(name: str) -> Any:
    """A progress callback that does nothing."""
    return lambda here, total: None


def use(monkeypatch: pytest.MonkeyPatch, name: str, **changes: object) -> DatasetCard:
    """Make a registered name refer to a smaller dataset, whose digests the card then has."""
    card = PACKAGED.dataset(name).model_copy(update={"labels": LABELS, "sha256": None, **changes})
    monkeypatch.setitem(packaged_datasets(), name, card)
    return card


def known(files: dict[str, bytes]) -> tuple[DataFile, ...]:
    """Return the entries of a card for these files."""
    return tuple(
        DataFile(name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in files.items()
    )


def random_images(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


# --- IDX ---


def idx_bytes(array: np.ndarray) -> bytes:
    """IDX written by the format's definition: two zero bytes, type, rank, big-endian sizes, values."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def idx_files(train: int = 6, test: int = 4) -> dict[str, bytes]:
    """Return the four gzipped files of an MNIST-like dataset."""
    files = {}
    for seed, (part, count) in enumerate({"train": train, "t10k": test}.items()):
        images, labels = random_images(count, 28, 28, seed=seed), np.arange(count) % LABELS
        files[f"{part}-images-idx3-ubyte.gz"] = gzip.compress(idx_bytes(images))
        files[f"{part}-labels-idx1-ubyte.gz"] = gzip.compress(idx_bytes(labels))
    return files


# --- CIFAR ---


class _Python2Pickler(pickle._Pickler):
    """Protocol 2 with the string opcodes of Python 2, in which the original batches were written."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    if TYPE_CHECKING:  # the type stubs of the Python class omit this
        write: Callable[[bytes], object]
        memoize: Callable[[object], None]

    def save_string(self, value: str | bytes) -> None:
        raw = value.encode("latin1") if isinstance(value, str) else value
        short = len(raw) < 256
        self.write(
            (pickle.SHORT_BINSTRING + bytes([len(raw)])) if short else pickle.BINSTRING + struct.pack("<i", len(raw))
        )
        self.write(raw)
        self.memoize(value)

    dispatch[str] = save_string
    dispatch[bytes] = save_string


def python2_pickle(value: object) -> bytes:
    file = io.BytesIO()
    _Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def cifar_batch(count: int, seed: int, key: str) -> bytes:
    rows = random_images(count, 3 * 32 * 32, seed=seed)
    labels = [i % LABELS for i in range(count)]
    return python2_pickle({"batch_label": f"batch {seed}", key: labels, "data": rows, "filenames": ["x.png"] * count})


def cifar_members(name: str) -> dict[str, bytes]:
    """Return 6 training and 4 test images, in the batches of the original."""
    if name == "cifar100":
        parts = {"cifar-100-python/train": 6, "cifar-100-python/test": 4}
        return {path: cifar_batch(n, i, "fine_labels") for i, (path, n) in enumerate(parts.items())}
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    counts = [2, 1, 1, 1, 1, 4]
    members = {}
    for i, (batch, count) in enumerate(zip(names, counts, strict=True)):
        rows = random_images(count, 3 * 32 * 32, seed=i)
        content = {"labels": [(i + j) % LABELS for j in range(count)], "data": rows}
        members[f"cifar-10-batches-py/{batch}"] = python2_pickle(content)
    return members


def tar_gz(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


# --- SVHN ---


def svhn_files(train: int = 6, test: int = 4) -> dict[str, bytes]:
    """Return the files; the label of the digit zero is ten, as in the original."""
    files = {}
    for seed, (part, count) in enumerate({"train": train, "test": test}.items()):
        labels = np.array([[10 if i % LABELS == 0 else i % LABELS] for i in range(count)], dtype=np.uint8)
        file = io.BytesIO()
        images_HWCN = random_images(count, 32, 32, 3, seed=seed).transpose(1, 2, 3, 0)
        scipy.io.savemat(file, {"X": images_HWCN, "y": labels}, do_compression=True)  # type: ignore[arg-type]  # also accepts file objects
        files[f"{part}_32x32.mat"] = file.getvalue()
    return files


# --- image files ---


def image_bytes(width: int, height: int, seed: int, mode: str = "RGB", form: str = "PNG") -> bytes:
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    file = io.BytesIO()
    Image.fromarray(random_images(1, *shape, seed=seed)[0]).save(file, form)
    return file.getvalue()


def plain_image(width: int, height: int, value: int) -> bytes:
    """Return an RGB file with all bytes equal."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), (value,) * 3).save(file, "PNG")
    return file.getvalue()


RGB = Image.frombytes("RGB", (9, 7), bytes(range(189)))
"""An image without two equal pixels, and with different width and height."""


def encoded(form: str, image: Image.Image, **options: object) -> bytes:
    """Return an image as a file of a format."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def oriented(orientation: int, form: str = "JPEG") -> bytes:
    """Return a file of ``RGB`` with an EXIF orientation."""
    exif = Image.Exif()
    exif[274] = orientation
    return encoded(form, RGB, exif=exif)


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def folder_files(train: int = 3, test: int = 1, mode: str = "RGB") -> dict[str, bytes]:
    """Return an image folder with the labels ant, bee and cat, and images of different sizes and formats."""
    files = {}
    for part, count in {"train": train, "test": test}.items():
        for number, label in enumerate(("ant", "bee", "cat")):
            for i in range(count):
                form = "JPEG" if i % 2 else "PNG"
                name = f"{part}/{label}/{i}.{'jpg' if i % 2 else 'png'}"
                files[name] = image_bytes(
                    20 + i, 30 - number, seed=100 * number + 10 * i + len(part), mode=mode, form=form
                )
    return files


def caltech101_files(labels: int = LABELS, images: int = 32) -> dict[str, bytes]:
    """Return the contents of 101_ObjectCategories: a few labels, one of their images grey, and the clutter."""
    names = [f"label_{i}" for i in range(labels)]
    files = {
        f"101_ObjectCategories/{name}/image_{i:04}.jpg": image_bytes(
            30, 20 + i % 5, seed=i, mode="L" if (name, i) == ("label_1", 2) else "RGB", form="JPEG"
        )
        for name in names
        for i in range(1, images + 1)
    }
    return {**files, "101_ObjectCategories/BACKGROUND_Google/image_0001.jpg": image_bytes(9, 9, seed=1, form="JPEG")}


def caltech101_zip(files: dict[str, bytes]) -> bytes:
    """Return the archive as published by Caltech: tar files in a zip file, with the files that macOS adds."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as outer:
        outer.writestr("caltech-101/101_ObjectCategories.tar.gz", tar_gz(files))
        outer.writestr("caltech-101/Annotations.tar", b"not read")
        outer.writestr("__MACOSX/caltech-101/101_ObjectCategories.tar.gz", b"not read")
    return file.getvalue()


# --- all datasets that are fetched ---


def downloads(monkeypatch: pytest.MonkeyPatch, name: str) -> dict[str, bytes]:
    """Make a name refer to a small dataset; return a mirror's files of it, by name."""
    if name.startswith("cifar"):
        members = cifar_members(name)
        files = {PACKAGED.dataset(name).files[0].name: tar_gz({**members, "cifar/readme.html": b"hello"})}
        use(monkeypatch, name, train=6, test=4, files=known(files), members=known(members))
    elif name == "caltech101":
        files = {"caltech-101.zip": caltech101_zip(caltech101_files())}
        use(monkeypatch, name, train=90, test=6, files=known(files))
    else:
        files = svhn_files() if name == "svhn" else idx_files()
        use(monkeypatch, name, train=6, test=4, files=known(files))
    return files
