"""Images and labels of a dataset as uint8, resized once.

Shape suffixes: N images, C channels (1 grey, 3 colour), H height, W width.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jobs.catalog.dataset_card import DatasetCard
from jobs.data.cue_conflict import in_conflict
from jobs.data.locate import own_directory
from jobs.data.low_pass import Degradation
from jobs.data.raw import LabelledImages, Raw
from jobs.data.readers import how_to_go_on, read_raw
from jobs.data.resize import Images, resized
from jobs.data.whole_image import whole
from jobs.errors import Code, DamagedFile


class ImageSet(NamedTuple):
    """Images N x C x H x W (uint8, 0 to 255) and labels N (int64)."""

    images_NCHW: Images
    labels_N: Tensor


class Cues(NamedTuple):
    """The texture labels N (int64) of cue-conflict test images, and the names of the labels."""

    textures_N: Tensor
    names: tuple[str, ...]


class Dataset(NamedTuple):
    """Both parts of a dataset at one image size; ``sha256`` covers the images before resizing and their degradation."""

    name: str
    train: ImageSet
    test: ImageSet
    sha256: str
    cues: Cues | None = None
    """For test images whose shape and texture have different labels; ``test`` contains the shape labels."""


def load_dataset(
    card: DatasetCard, image_size: int, directory: Path | None = None, *, whole_training: bool = False
) -> Dataset:
    """Load the dataset that a card describes, with images resized bilinearly to ``image_size`` pixels per side.

    Nothing is downloaded. Each process reads the original files and verifies their digests; resized images are cached
    on this machine (``jobs.data.resize``).

    Args:
        directory: the directory with the files; by default the one that ``jobs.data.locate.find`` finds.
        whole_training: True: training images are ``WholeImages``, which can be cropped anywhere. False: only their
            centre squares are kept.

    Raises:
        MissingData: if the files are not on this machine.
        DamagedFile: if they do not match the card or the record of their fetch.
    """
    return cached_dataset(card, image_size, directory, whole_training)


@lru_cache(maxsize=4)
def cached_dataset(card: DatasetCard, image_size: int, directory: Path | None, whole_training: bool) -> Dataset:
    """Like ``load_dataset``; a process caches the four most recently used datasets."""
    parts = _parts(card, image_size, directory)
    sha256 = card.shown_digest(parts.raw.sha256)
    lost = Degradation(card.low_resolution, card.low_pass, aspect_kept=card.aspect == "kept")
    names = parts.raw.names or tuple(map(str, range(card.labels)))
    cues = None if parts.textures_N is None else Cues(torch.from_numpy(parts.textures_N.copy()), names)
    original = parts.raw.sha256

    def read_again() -> _Parts:
        """Read the files again, which must not have changed: their digest is in the names of cached files."""
        found = _parts(card, image_size, directory)
        if found.raw.sha256 != original:
            raise DamagedFile(
                Code.DAMAGED_DATA,
                f"dataset {card.name!r} has changed while it was in use: its images had the digest {original} and now "
                f"have {found.raw.sha256}. {how_to_go_on(card)}",
                file=card.folder or directory or own_directory(card),
                key="sha256",
            )
        return found

    def images(
        part: LabelledImages, which: str, again: Callable[[], LabelledImages], whole_images: bool = False
    ) -> ImageSet:
        keep = whole if whole_images else resized
        images_NCHW = keep(part, image_size, f"{card.name}-{sha256[:16]}-{which}", lost, again)
        return ImageSet(images_NCHW, torch.from_numpy(part.labels_N.copy()))

    train = images(parts.raw.train, "train", lambda: read_again().raw.train, whole_training)
    test = images(parts.test, "test", lambda: read_again().test)
    return Dataset(card.name, train, test, sha256, cues)


class _Parts(NamedTuple):
    raw: Raw
    test: LabelledImages
    """The test images as networks see them: cue-conflict images, if the card requests them."""
    textures_N: npt.NDArray[np.int64] | None


def _parts(card: DatasetCard, image_size: int, directory: Path | None) -> _Parts:
    raw = read_raw(card, directory)
    if card.cue_conflict is None:
        return _Parts(raw, raw.test, raw.textures_N)
    mixed = in_conflict(raw.test, image_size)
    return _Parts(raw, mixed, mixed.textures_N)
