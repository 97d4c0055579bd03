"""Fetching a dataset once, before anything is launched: download, extract, verify, record. No torch."""

import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock

from jobs.data import idx
from jobs.data.fetched import is_recorded, record_fetched
from jobs.data.places import CALTECH101_IMAGES, own_directory, require, require_unchanged
from jobs.data.raw import Raw
from jobs.data.readers import read_raw
from jobs.download import Progress, download, writing
from jobs.errors import Code, DamagedFile, MissingData
from jobs.registry import DatasetCard, DatasetFormat

_CALTECH101_ARCHIVE = f"{CALTECH101_IMAGES}.tar.gz"  # inside the zip file that is downloaded
_CALTECH101_IMAGE = re.compile(rf"(?:\./)?({CALTECH101_IMAGES}/\w[\w-]*/image_\d+\.jpg)")


def fetch(card: DatasetCard, mirror: str | None, on_progress: Callable[[str], Progress]) -> Path | None:
    """See to it that a dataset is on this machine, verified and recorded.

    What is there already, and is what it should be, is not downloaded again.

    Args:
        mirror: the URL of a folder with ``NAME/FILE``, instead of the card's mirrors.
        on_progress: makes, for a file's name, what is told of its download.

    Returns:
        The directory that has its files; None for a dataset that comes with a package.

    Raises:
        MissingData, DamagedFile, StorageFailure: as ``jobs.download.download``; nothing is left half done.
    """
    if card.format is DatasetFormat.DIGITS:
        return None
    raw = _read_verified(card)
    if raw is None:
        _download_and_extract(card, mirror, on_progress)
        raw = read_raw(card)
    directory = require(card)
    if directory == own_directory(card) and not is_recorded(card):
        with writing(directory):
            record_fetched(card, directory, raw.sha256)
    return directory


def _read_verified(card: DatasetCard) -> Raw | None:
    """What is on this machine already, if there is a digest, in the card or of an earlier fetch, to hold it against."""
    digests_are_read = card.format in (DatasetFormat.CIFAR, DatasetFormat.SVHN)
    if card.files and not (card.sha256 or digests_are_read or is_recorded(card)):
        return None
    try:
        return read_raw(card)
    except (MissingData, DamagedFile):
        if card.files:
            return None
        raise


def _download_and_extract(card: DatasetCard, mirror: str | None, on_progress: Callable[[str], Progress]) -> None:
    folders = [f"{mirror.rstrip('/')}/{card.files_of}"] if mirror else list(card.mirrors)
    directory = own_directory(card)
    for file in card.files:
        download(
            [f"{folder}/{file.name}" for folder in folders],
            directory / file.name,
            sha256=file.sha256,
            md5=file.md5,
            size=file.size,
            on_progress=on_progress(file.name),
        )
    with writing(directory), FileLock(directory / "extract.lock"):
        match card.format:
            case DatasetFormat.CIFAR:
                _extract_members(card, directory)
            case DatasetFormat.CALTECH101:
                _extract_caltech101(directory / card.files[0].name, directory)
            case DatasetFormat.IDX:
                _refuse_unpacked(card, directory)


def _refuse_unpacked(card: DatasetCard, directory: Path) -> None:
    """Unpacked files are read before packed ones, and only a digest of the images themselves can vouch for them."""
    unpacked = [path for stem in idx.FILES if (path := directory / stem).exists()]
    if unpacked and card.sha256 is None:
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"{unpacked[0]} cannot be verified: the digests known are those of the packed files. Remove it and run "
            f"again: deltasweep data fetch {card.name}",
            file=unpacked[0],
        )


def _extract_members(card: DatasetCard, directory: Path) -> None:
    """Take the members that the card names out of its archive, verify them, and only then put them in their places."""
    archive = directory / card.files[0].name
    with _extracting(archive, directory) as temporary:
        with tarfile.open(archive) as tar:
            for member in card.members:
                _write(tar.extractfile(member.name), temporary / member.name)
        require_unchanged(temporary, card.members)
        for member in card.members:
            (directory / member.name).parent.mkdir(exist_ok=True)
            (temporary / member.name).replace(directory / member.name)


def _extract_caltech101(archive: Path, directory: Path) -> None:
    """Take the images, and nothing else, out of the tar file in the zip file."""
    with _extracting(archive, directory) as temporary:
        with (
            zipfile.ZipFile(archive) as outer,
            outer.open(_only(archive, outer, _CALTECH101_ARCHIVE)) as packed,
            tarfile.open(fileobj=packed, mode="r|gz") as tar,
        ):
            for member in tar:
                if member.isfile() and (match := _CALTECH101_IMAGE.fullmatch(member.name)):
                    _write(tar.extractfile(member), temporary / match[1])
        target = directory / CALTECH101_IMAGES
        if target.exists():
            target.replace(temporary / "before")
        (temporary / CALTECH101_IMAGES).replace(target)


def _only(archive: Path, outer: zipfile.ZipFile, name: str) -> str:
    found = [inner for inner in outer.namelist() if inner.split("/")[-1] == name and not inner.startswith("__MACOSX")]
    if len(found) != 1:
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"{archive} must have one {name} in it and has {len(found)}; remove it and fetch again",
            file=archive,
        )
    return found[0]


@contextmanager
def _extracting(archive: Path, directory: Path) -> Iterator[Path]:
    """A temporary directory on the same disk; an archive that is not what it should be is a ``DamagedFile``."""
    for abandoned in directory.glob(".extracting-*"):  # of a process that was killed; whoever is here has the lock
        shutil.rmtree(abandoned)
    with tempfile.TemporaryDirectory(prefix=".extracting-", dir=directory) as temporary:
        try:
            yield Path(temporary)
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, KeyError, FileNotFoundError) as error:
            raise DamagedFile(
                Code.DAMAGED_DATA,
                f"{archive} cannot be unpacked ({error}); remove it and fetch again",
                file=archive,
            ) from error


def _write(content: IO[bytes] | None, target: Path) -> None:
    if content is None:
        raise tarfile.TarError(f"{target.name} is no regular file")
    target.parent.mkdir(parents=True, exist_ok=True)
    with content, target.open("wb") as file:
        shutil.copyfileobj(content, file)
