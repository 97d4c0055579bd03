"""CIFAR-10 and CIFAR-100: pickled batches (Krizhevsky 2009), read without running what a pickle may hold."""

import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from jobs.data.raw import RawPart
from jobs.errors import Code, DamagedFile
from jobs.files import open_file
from jobs.registry import DatasetCard

_SIDE = 32
_RECONSTRUCT = np.empty(0).__reduce__()[0]


class _ArraysOnly(pickle.Unpickler):
    """Unpickles dictionaries, lists, strings, numbers and arrays of bytes; anything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case (("numpy.core.multiarray" | "numpy._core.multiarray"), "_reconstruct"):
                return _RECONSTRUCT
            case "numpy", "ndarray":
                return np.ndarray
            case "numpy", "dtype":
                return _bytes_only
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read(card: DatasetCard, directory: Path) -> tuple[RawPart, RawPart]:
    """Both parts; the batches whose name says ``test`` are the test set.

    Raises:
        MissingData: when a batch is not there.
        DamagedFile: when a batch holds anything but images and labels, or would run code.
    """
    paths = [directory / member.name for member in card.members]
    test = [path for path in paths if path.name.startswith("test")]
    return _part([path for path in paths if path not in test]), _part(test)


def _part(paths: list[Path]) -> RawPart:
    batches = [_read_batch(path) for path in paths]
    images, labels = (np.concatenate(values) for values in zip(*batches, strict=True))
    images_NHWC = images.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
    return RawPart(np.ascontiguousarray(images_NHWC), labels)


def _read_batch(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    with open_file(path) as file:
        batch = _unpickle(path, file)
    labels = batch.get("labels", batch.get("fine_labels")) if isinstance(batch, dict) else None
    images = batch.get("data") if isinstance(batch, dict) else None
    if not (
        isinstance(images, np.ndarray)
        and isinstance(labels, list)
        and images.dtype == np.uint8
        and images.shape == (len(labels), 3 * _SIDE * _SIDE)
        and all(isinstance(label, int) for label in labels)
    ):
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"{path} is no batch of CIFAR images: it lacks `data` and a label for each row of it",
            file=path,
        )
    return images, np.array(labels, dtype=np.int64)


def _unpickle(path: Path, file: IO[bytes]) -> Any:
    try:
        return _ArraysOnly(file, encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"{path} is refused: a batch is a pickle of arrays and lists only, anything else may run code ({error}). "
            "Remove it and fetch the dataset again",
            file=path,
        ) from error
    except (EOFError, ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError) as error:
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"{path} cannot be unpickled ({error}); remove it and fetch the dataset again",
            file=path,
        ) from error


def _bytes_only(name: str, *_: object) -> np.dtype[np.uint8]:
    """numpy's dtype for the one type that a batch has, without the flags that numpy has given up."""
    if name != "u1":
        raise pickle.UnpicklingError(f"it has an array of {name!r} instead of bytes")
    return np.dtype(np.uint8)
