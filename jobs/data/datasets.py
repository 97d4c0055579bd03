"""Images and labels of a dataset as bytes, resized once.

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

from jobs import registry
from jobs.data.conflicts import in_conflict
from jobs.data.degraded import Degradation
from jobs.data.raw import Part, Raw
from jobs.data.readers import read_raw
from jobs.data.resized import Images, resized
from jobs.data.whole import whole


class ImageSet(NamedTuple):
    """Images as bytes N x C x H x W (uint8, 0 to 255) and labels N (int64)."""

    images_NCHW: Images
    labels_N: Tensor


class Cues(NamedTuple):
    """What test images of conflicting cues say besides their shape: the label of the texture N (int64), and what labels
    are called.
    """

    textures_N: Tensor
    names: tuple[str, ...]


class Dataset(NamedTuple):
    """Both parts of a dataset at one image size; ``sha256`` is of the images before resizing, and what they lost."""

    name: str
    train: ImageSet
    test: ImageSet
    sha256: str
    cues: Cues | None = None
    """Of test images whose shape and texture say different labels; ``test`` has that of the shape."""


def load_dataset(name: str, image_size: int, directory: Path | None = None, *, whole_training: bool = False) -> Dataset:
    """Load a dataset with its images resized bilinearly to ``image_size`` pixels a side. Nothing is downloaded.

    The original files are read and held against their digests in each process; what is resized is kept on
    this machine (``jobs.data.resized``).

    Args:
        name: a dataset of the registry, or of the study at hand.
        directory: where its files are; by default where ``jobs.data.places.find`` finds them.
        whole_training: training images are ``WholeImages``, to be cropped anywhere; otherwise their centre squares are
            all that is left of them.

    Raises:
        MissingData: when its files are not on this machine.
        DamagedFile: when they are not what the registry, or the record of their fetch, says.
    """
    return load_card(registry.dataset(name), image_size, directory, whole_training)


@lru_cache(maxsize=4)
def load_card(
    card: registry.DatasetCard, image_size: int, directory: Path | None = None, whole_training: bool = False
) -> Dataset:
    """Load the dataset that a card describes; two studies may mean two datasets by one name."""
    parts = _parts(card, image_size, directory)
    sha256 = card.shown_digest(parts.raw.sha256)
    lost = Degradation(card.low_resolution, card.low_pass, aspect_kept=card.aspect == "kept")
    names = parts.raw.names or tuple(map(str, range(card.labels)))
    cues = None if parts.textures_N is None else Cues(torch.from_numpy(parts.textures_N.copy()), names)

    def images(part: Part, which: str, again: Callable[[], Part], whole_images: bool = False) -> ImageSet:
        keep = whole if whole_images else resized
        images_NCHW = keep(part, image_size, f"{card.name}-{sha256[:16]}-{which}", lost, again)
        return ImageSet(images_NCHW, torch.from_numpy(part.labels_N.copy()))

    train = images(parts.raw.train, "train", lambda: _parts(card, image_size, directory).raw.train, whole_training)
    test = images(parts.test, "test", lambda: _parts(card, image_size, directory).test)
    return Dataset(card.name, train, test, sha256, cues)


class _Parts(NamedTuple):
    raw: Raw
    test: Part
    """As it is shown: cues in conflict, where the card says so."""
    textures_N: npt.NDArray[np.int64] | None


def _parts(card: registry.DatasetCard, image_size: int, directory: Path | None) -> _Parts:
    raw = read_raw(card, directory)
    if card.cue_conflict is None:
        return _Parts(raw, raw.test, raw.textures_N)
    mixed = in_conflict(raw.test, image_size)
    return _Parts(raw, mixed, mixed.textures_N)
