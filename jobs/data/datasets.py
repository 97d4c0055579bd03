"""Images and labels of a dataset, resized once, kept as bytes in memory.

Shape suffixes: N images, C channels (1 grey, 3 colour), H height, W width.
"""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from jobs import registry
from jobs.data import idx
from jobs.errors import DamagedFile, InvalidRequest, MissingData
from jobs.home import data_directory

_DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # apt-get install dataset-fashion-mnist


class ImageSet(NamedTuple):
    """Images as bytes N x C x H x W (uint8, 0 to 255) and labels N (int64)."""

    images_NCHW: Tensor
    labels_N: Tensor


class Dataset(NamedTuple):
    """Both parts of a dataset at one image size; ``sha256`` is that of the images before resizing."""

    name: str
    train: ImageSet
    test: ImageSet
    sha256: str


class RawPart(NamedTuple):
    """Images N x H x W x C and labels N as they come from their files."""

    images_NHWC: npt.NDArray[np.uint8]
    labels_N: npt.NDArray[np.int64]


@lru_cache(maxsize=4)
def load_dataset(name: str, image_size: int, directory: Path | None = None) -> Dataset:
    """Load a dataset with its images resized bilinearly to ``image_size`` pixels a side.

    Args:
        name: a dataset of the registry.
        directory: where its files are; by default the dataset's folder in ``data_directory()``.

    Raises:
        MissingData: when its files are not on this machine.
        DamagedFile: when they are not the files the registry knows.
    """
    card = registry.dataset(name)
    if name not in _READERS:
        raise MissingData(f"dataset {name!r} is known but cannot be read yet; readable: {', '.join(_READERS)}")
    train, test = _READERS[name](directory)
    sizes = (len(train.labels_N), len(test.labels_N))
    if sizes != (card.train, card.test):
        raise DamagedFile(f"dataset {name!r} has {card.train} + {card.test} images; the files hold {sizes}")
    sha256 = content_digest(train, test)
    if card.sha256 is not None and sha256 != card.sha256:
        raise DamagedFile(
            f"dataset {name!r} must have the digest {card.sha256}; the files give {sha256}. "
            "Install the original files again"
        )
    return Dataset(name, _resize(train, image_size), _resize(test, image_size), sha256)


def content_digest(*parts: RawPart) -> str:
    """The sha256 of shapes, image bytes and labels: what the images are, however they were packed."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(repr(part.images_NHWC.shape).encode())
        hasher.update(np.ascontiguousarray(part.images_NHWC).tobytes())
        hasher.update(part.labels_N.astype("<i8").tobytes())
    return hasher.hexdigest()


def _resize(part: RawPart, image_size: int) -> ImageSet:
    images_NCHW = torch.from_numpy(part.images_NHWC.copy()).permute(0, 3, 1, 2)
    resized = transforms.resize(images_NCHW, [image_size, image_size], antialias=True)
    return ImageSet(resized.contiguous(), torch.from_numpy(part.labels_N.copy()))


def _read_digits(directory: Path | None) -> tuple[RawPart, RawPart]:
    """scikit-learn's digits, 0 to 16 scaled to 0 to 255; a digit's place follows from a hash of its index."""
    if directory is not None:
        raise InvalidRequest(f"the digits come with scikit-learn and take no directory; given: {directory}")
    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = bunch.target.astype(np.int64)
    order = sorted(range(len(labels)), key=lambda i: hashlib.sha256(f"digits/{i}".encode()).digest())
    train, test = np.sort(order[:1000]), np.sort(order[1000:])
    return RawPart(images[train], labels[train]), RawPart(images[test], labels[test])


def _read_fashion_mnist(directory: Path | None) -> tuple[RawPart, RawPart]:
    folders = [directory] if directory else [data_directory() / "fmnist", _DEBIAN_FASHION_MNIST]
    found = next((folder for folder in folders if folder.is_dir()), None)
    if found is None:
        raise MissingData(
            f"Fashion-MNIST is not on this machine (looked in {', '.join(map(str, folders))}); put its four IDX "
            f"files into {folders[0]}, or on Debian: apt-get install dataset-fashion-mnist"
        )
    return _read_idx_part(found, "train"), _read_idx_part(found, "t10k")


def _read_idx_part(directory: Path, part: str) -> RawPart:
    images = idx.read(idx.find(directory, f"{part}-images-idx3-ubyte"))
    labels = idx.read(idx.find(directory, f"{part}-labels-idx1-ubyte"))
    if len(images) != len(labels):
        raise DamagedFile(f"{directory}: {part} has {len(images)} images and {len(labels)} labels")
    return RawPart(images[..., None], labels.astype(np.int64))


_READERS: dict[str, Callable[[Path | None], tuple[RawPart, RawPart]]] = {
    "digits": _read_digits,
    "fmnist": _read_fashion_mnist,
}
