"""Reading a dataset's original files and validating them against its card. No torch, no network."""

import hashlib
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jobs.catalog.dataset_card import DatasetCard, DatasetFormat
from jobs.data import cifar, idx
from jobs.data.folders import read_caltech101, read_cue_conflict, read_image_folder
from jobs.data.locate import require, require_unchanged
from jobs.data.manifest import require_fetched
from jobs.data.normalization_forms import FORMS, how_to_rename, in_form, is_in_form
from jobs.data.raw import FolderPart, Raw, RawPart, files_digest, in_memory
from jobs.errors import Code, DamagedFile, InvalidRequest, reading_failure
from jobs.specs.canonical import digest
from jobs.system.commands import command
from jobs.system.files import open_file

_MOST_VALUES = 1 << 31
"""The most values of an array of SVHN that are read; its largest file, of extra images, has 1.6 billion."""


def read_raw(card: DatasetCard, directory: Path | None = None) -> Raw:
    """Read a dataset's images before resizing.

    Args:
        directory: the directory with the files; by default the one that ``jobs.data.locate.find`` finds.

    Raises:
        MissingData: if the files are not on this machine.
        DamagedFile: if they do not match the card or the record of the fetch, or may not be read.
        StorageFailure: if the disk fails.
        InvalidRequest: if a directory is given for the digits, which have no files.
    """
    if card.format is DatasetFormat.DIGITS:
        if directory is not None:
            raise InvalidRequest(
                Code.WRONG_PLACE,
                f"expected no directory for the digits, which are part of scikit-learn; got {directory}",
                file=directory,
            )
        raw = _read_digits()
    else:
        directory = require(card, directory)
        raw = _READERS[card.format](card, directory)
    _require_as_on_card(card, raw, directory)
    if directory is not None:
        require_fetched(card, directory, raw.sha256)
    return raw


def _require_as_on_card(card: DatasetCard, raw: Raw, directory: Path | None) -> None:
    def other(key: str, message: str) -> DamagedFile:
        return DamagedFile(Code.DAMAGED_DATA, message, file=directory or "", key=key)

    sizes = (len(raw.train.labels_N), len(raw.test.labels_N))
    if sizes != (card.train, card.test):
        raise other(
            "test" if sizes[0] == card.train else "train",
            f"expected dataset {card.name!r} to have {card.train:,} training and {card.test:,} test images; the files "
            f"contain {sizes[0]:,} and {sizes[1]:,}. {how_to_go_on(card)}",
        )
    trained, tested = set(raw.train.labels_N.tolist()), set(raw.test.labels_N.tolist())
    if (trained if card.train else tested) != set(range(card.labels)) or (card.train and not tested <= trained):
        raise other(
            "labels",
            f"expected dataset {card.name!r} to have the {card.labels} labels from 0 to {card.labels - 1}; the files "
            f"contain {_told(trained, 'the training set')}, and {_told(tested, 'the test set')}",
        )
    if card.label_names is not None and raw.names and (names := digest(raw.names)) != card.label_names:
        fix = "Fix: name the folders as in the original dataset, or correct `label_names` in the card"
        raise other(
            "label_names",
            f"expected the names of the {card.labels} labels of dataset {card.name!r}, in order, to have the digest "
            f"{card.label_names}; those of the files, {raw.names[0]} to {raw.names[-1]}, have {names}. "
            f"{_other_form_of_labels(card, raw, directory) or fix}",
        )
    if (channels := 3 if card.colour else 1) != raw.train.channels or channels != raw.test.channels:
        raise other(
            "colour",
            f"expected dataset {card.name!r} to have {channels} channels; the training files have "
            f"{raw.train.channels}, the test files {raw.test.channels}",
        )
    if card.sha256 is not None and raw.sha256 != card.sha256:
        raise other(
            "sha256",
            f"expected dataset {card.name!r} to have the digest {card.sha256}; the files have {raw.sha256}. "
            f"{_other_form_of_names(card, raw, directory) or how_to_go_on(card)}",
        )


def _other_form_of_labels(card: DatasetCard, raw: Raw, directory: Path | None) -> str | None:
    """Return how to rename labels whose names are those of the card in another Unicode normalization form, if any."""
    for form in FORMS:
        if directory is not None and digest(sorted(in_form(raw.names, form))) == card.label_names:
            return how_to_rename(directory, form)
    return None


def _other_form_of_names(card: DatasetCard, raw: Raw, directory: Path | None) -> str | None:
    """Return the same for names of labels and images. Files are read again only if they have letters with forms."""
    parts = [part for part in (raw.train, raw.test) if isinstance(part, FolderPart)]
    if directory is None:
        return None
    names = [str(path.relative_to(directory)) for part in parts for path in part.paths]
    for form in FORMS:
        if not is_in_form(names, form) and files_digest(directory, parts, form) == card.sha256:
            return how_to_rename(directory, form)
    return None


def how_to_go_on(card: DatasetCard) -> str:
    """Return the fix for files that are others than those of the card."""
    if card.folder is None:
        return "Fix: install the original files again"
    return (
        "Fix: restore the images; or, if the present ones are meant, let "
        f"{command('data', 'describe', card.folder)} print their card, and give it a new name if there are results of "
        f"{card.name}"
    )


def _told(labels: set[int], use: str) -> str:
    return f"{len(labels)} in {use}, from {min(labels)} to {max(labels)}" if labels else f"none in {use}"


def _read_digits() -> Raw:
    """Read scikit-learn's digits, scaled from 0..16 to 0..255 and split by a hash of their index."""
    from sklearn.datasets import load_digits  # takes a seventh of an actor's start-up; no other dataset needs it

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = bunch.target.astype(np.int64)
    order = sorted(range(len(labels)), key=lambda i: hashlib.sha256(f"digits/{i}".encode()).digest())
    train, test = np.sort(order[:1000]), np.sort(order[1000:])
    return in_memory(RawPart(images[train], labels[train]), RawPart(images[test], labels[test]))


def _read_idx(directory: Path) -> Raw:
    return in_memory(*(_read_idx_part(directory, part) for part in ("train", "t10k")))


def _read_idx_part(directory: Path, part: str) -> RawPart:
    images = idx.read(idx.find(directory, f"{part}-images-idx3-ubyte"))
    labels = idx.read(idx.find(directory, f"{part}-labels-idx1-ubyte"))
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"expected {directory} to have 3-dimensional {part} images and one label per image; got images of shape "
            f"{images.shape} and labels of shape {labels.shape}",
            file=directory,
        )
    return RawPart(images[..., None], labels.astype(np.int64))


def _read_cifar(card: DatasetCard, directory: Path) -> Raw:
    require_unchanged(directory, card.members)
    return in_memory(*cifar.read(card, directory))


def _read_svhn(card: DatasetCard, directory: Path) -> Raw:
    require_unchanged(directory, card.files)
    return in_memory(*(_read_matlab(directory / f"{part}_32x32.mat") for part in ("train", "test")))


def _read_matlab(path: Path) -> RawPart:
    """Read ``X``, uint8 H x W x C x N, and ``y``, N x 1, where 10 is the digit zero (Netzer et al. 2011)."""
    import scipy.io  # imported lazily, like scikit-learn

    try:
        with open_file(path) as opened:
            file: Any = opened  # the types of scipy know only paths
            for name, shape, _ in scipy.io.whosmat(file):
                if math.prod(shape) > _MOST_VALUES:
                    raise ValueError(
                        f"{name} would have {math.prod(shape):,} values; at most {_MOST_VALUES:,} are read"
                    )
            file.seek(0)
            content = scipy.io.loadmat(file, variable_names=["X", "y"])
        images_HWCN, labels = content["X"], content["y"].ravel().astype(np.int64)
    except (
        scipy.io.matlab.MatReadError,
        zlib.error,
        OSError,
        ValueError,
        TypeError,
        LookupError,
        NotImplementedError,
    ) as error:
        damaged = DamagedFile(
            Code.DAMAGED_DATA,
            f"{path} has no readable `X` and `y` ({error}). Fix: remove it and fetch the dataset again",
            file=path,
        )
        raise reading_failure(error, path, damaged) from error
    if images_HWCN.dtype != np.uint8 or images_HWCN.shape[2:] != (3, len(labels)):
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"expected uint8 images H x W x 3 x N and N labels; {path} has {images_HWCN.dtype} images of shape "
            f"{images_HWCN.shape} and {len(labels)} labels. Fix: remove it and fetch the dataset again",
            file=path,
        )
    return RawPart(np.ascontiguousarray(images_HWCN.transpose(3, 0, 1, 2)), labels % 10)


def _upright(card: DatasetCard) -> bool:
    return card.exif_orientation == "applied"


_READERS: dict[DatasetFormat, Callable[[DatasetCard, Path], Raw]] = {
    DatasetFormat.IDX: lambda _, directory: _read_idx(directory),
    DatasetFormat.CIFAR: _read_cifar,
    DatasetFormat.SVHN: _read_svhn,
    DatasetFormat.CALTECH101: lambda card, directory: read_caltech101(directory, _upright(card)),
    DatasetFormat.IMAGENET: lambda card, directory: read_image_folder(directory, card.colour, _upright(card)),
    DatasetFormat.IMAGE_FOLDER: lambda card, directory: read_image_folder(directory, card.colour, _upright(card)),
    DatasetFormat.CUE_CONFLICT: lambda card, directory: read_cue_conflict(directory, card.colour, _upright(card)),
}
