"""The IDX format of the MNIST family: big-endian shape, then bytes (LeCun's page; Xiao et al. 2017)."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jobs.errors import Code, DamagedFile, MissingData, reading_failure
from jobs.system.commands import command
from jobs.system.files import open_file

FILES = tuple(f"{part}-{what}" for part in ("train", "t10k") for what in ("images-idx3-ubyte", "labels-idx1-ubyte"))

_UNSIGNED_BYTES = 0x08
_MOST_BYTES = 1 << 30
"""The largest unpacked file that is read: MNIST's largest has 47 million bytes, EMNIST's 640 million."""


def find(directory: Path, stem: str) -> Path:
    """Return the path of ``stem`` or ``stem.gz`` in a directory.

    Raises:
        MissingData: if neither exists.
    """
    for path in (directory / stem, directory / f"{stem}.gz"):
        if path.is_file():
            return path
    raise MissingData(
        Code.MISSING_DATA,
        f"neither {stem} nor {stem}.gz is in {directory}. Fix: put the file there, or get the dataset with "
        f"{command('data', 'fetch', 'NAME')}",
        file=directory / stem,
    )


def read(path: Path) -> npt.NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzipped or not, into an array of the declared shape.

    Raises:
        DamagedFile: if the header, the length or the compression is invalid, or the file may not be read.
        StorageFailure: if the disk fails.
    """
    try:
        with open_file(path) as packed, gzip.open(packed) if path.suffix == ".gz" else packed as file:
            data = file.read(_MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        damaged = DamagedFile(
            Code.DAMAGED_DATA,
            f"{path} cannot be unpacked ({error}). Fix: remove it and install the dataset again",
            file=path,
        )
        raise reading_failure(error, path, damaged) from error
    if len(data) > _MOST_BYTES:
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"{path} has more than {_MOST_BYTES:,} bytes (unpacked), which no file of the MNIST family has. "
            "Fix: remove it and install the dataset again",
            file=path,
        )
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _UNSIGNED_BYTES:
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"expected an IDX file of unsigned bytes; {path} starts with {data[:4].hex() or 'nothing'}. Fix: remove it "
            "and install the dataset again",
            file=path,
        )
    header = 4 + 4 * data[3]
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, header, 4))
    if len(data) - header != math.prod(shape):
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"{path} declares {'x'.join(map(str, shape))} values and contains {len(data) - header}: it is truncated or "
            "was changed. Fix: remove it and install the dataset again",
            file=path,
        )
    return np.frombuffer(data, dtype=np.uint8, offset=header).reshape(shape)
