"""CIFAR-10 and CIFAR-100: pickled batches (Krizhevsky 2009), read without executing code in the pickle."""

import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from jobs.catalog.dataset_card import DatasetCard
from jobs.data.raw import RawPart
from jobs.errors import Code, DamagedFile
from jobs.system.files import open_file

_SIDE = 32
_RECONSTRUCT: Any = np.empty(0).__reduce__()[0]


class _ArraysOnly(pickle.Unpickler):
    """Unpickle dictionaries, lists, strings, numbers and uint8 arrays; refuse anything else."""

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case (("numpy.core.multiarray" | "numpy._core.multiarray"), "_reconstruct"):
                return _empty
            case "numpy", "ndarray":
                return np.ndarray
            case "numpy", "dtype":
                return _bytes_only
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")


def read(card: DatasetCard, directory: Path) -> tuple[RawPart, RawPart]:
    """Return the training and the test part; batches whose name starts with ``test`` are the test set.

    Raises:
        OSError: if a batch is missing or cannot be read.
        DamagedFile: if a batch contains anything but images and labels, or would execute code.
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
            f"{path} is not a batch of CIFAR images, which has `data` and one label per row. Fix: remove it and fetch "
            "the dataset again",
            file=path,
        )
    return images, np.array(labels, dtype=np.int64)


def _unpickle(path: Path, file: IO[bytes]) -> Any:
    try:
        return _ArraysOnly(file, encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"{path} is refused: expected a pickle of arrays and lists only, because anything else may execute code "
            f"({error}). Fix: remove it and fetch the dataset again",
            file=path,
        ) from error
    except (EOFError, ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError) as error:
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"{path} cannot be unpickled ({error}). Fix: remove it and fetch the dataset again",
            file=path,
        ) from error


def _empty(kind: object, shape: object, *_: object) -> Any:
    """Return the empty array that NumPy pickles before its contents; another shape would allocate memory."""
    if shape != (0,):
        raise pickle.UnpicklingError(f"it contains an array that begins with the shape {shape!r:.100}")
    return _RECONSTRUCT(np.ndarray, (0,), b"b")


def _bytes_only(name: str, *_: object) -> np.dtype[np.uint8]:
    """Return NumPy's dtype for the only type in a batch, ignoring flags that NumPy has deprecated."""
    if name != "u1":
        raise pickle.UnpicklingError(f"it contains an array of {name!r} instead of 'u1'")
    return np.dtype(np.uint8)
