"""A disk that fails while a dataset or a source is read: the file is not called damaged, and nobody is told to remove
it.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from jobs.catalog.catalog import PACKAGED
from jobs.data import folders, idx, readers
from jobs.data import split as splitting
from jobs.data.locate import own_directory
from jobs.data.manifest import require_fetched
from jobs.data.raw import FolderPart, files_digest
from jobs.errors import Code, DamagedFile, StorageFailure
from jobs.models.checkpoint_files import read_checkpoint
from jobs.models.weight_files import read_card
from tests.support import refused


class Reading(NamedTuple):
    """A function that reads a file, and the function that it calls to open it."""

    opens: str
    reads: Callable[[Path], object]
    damage: Code = Code.DAMAGED_DATA


def part(path: Path) -> FolderPart:
    return FolderPart((path,), np.zeros(1, np.int64), colour=True)


READINGS = {
    "image": Reading("jobs.data.raw.open_file", lambda path: part(path).image(0)),
    "size of an image": Reading("jobs.data.raw.open_file", lambda path: part(path).size(0)),
    "digest of images": Reading("jobs.data.raw.open_file", lambda path: files_digest(path.parent, [part(path)])),
    "folder": Reading("pathlib.Path.iterdir", folders._entries),
    "image to be copied": Reading("jobs.data.split.open_file", splitting._place),
    "IDX": Reading("jobs.data.idx.open_file", idx.read),
    "SVHN": Reading("jobs.data.readers.open_file", readers._read_matlab),
    "record of a fetch": Reading(
        "jobs.data.manifest.read_file",
        lambda path: require_fetched(PACKAGED.dataset("mnist"), path.parent, "0" * 64),
        Code.DAMAGED_RECORD,
    ),
    "card of a source": Reading("jobs.models.weight_files.read_file", read_card, Code.DAMAGED_RECORD),
    "checkpoint": Reading("torch.load", read_checkpoint, Code.DAMAGED_WEIGHTS),
}


def failed(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize("name", READINGS)
@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (failed(errno.EACCES), None, "make it readable"),
        (failed(errno.ENOENT), None, "put the original file back"),
        (OSError("cut off"), None, "Fix: "),
        (failed(errno.EINVAL), None, "Fix: "),
        (failed(errno.EIO), Code.STORAGE, "does not mean that it is damaged"),
        (failed(errno.ESTALE), Code.STORAGE, "does not mean that it is damaged"),
        (failed(errno.EMFILE), Code.STORAGE, "does not mean that it is damaged"),
        (failed(errno.ENOMEM), Code.OUT_OF_MEMORY, "does not mean that it is damaged"),
    ],
    ids=lambda value: type(value).__name__ + str(value.errno) if isinstance(value, OSError) else "",
)
def test_a_disk_that_fails_does_not_mean_a_damaged_file(
    name: str, fault: OSError, code: Code | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own_directory(PACKAGED.dataset("mnist")) / "fetched.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\x80\x02x")
    reading = READINGS[name]

    def fails(*_: object, **__: object) -> None:
        raise fault

    kind = DamagedFile if code is None else StorageFailure
    with monkeypatch.context() as patch, refused(code or reading.damage, words, kind=kind, file=path):
        patch.setattr(reading.opens, fails)
        reading.reads(path)


def test_too_little_memory_for_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Path) -> None:
        raise MemoryError

    monkeypatch.setattr("jobs.data.raw.open_file", fails)
    with refused(Code.OUT_OF_MEMORY, "too little memory", kind=StorageFailure, file=tmp_path / "1.png"):
        part(tmp_path / "1.png").image(0)
