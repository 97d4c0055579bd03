"""Fetching a dataset once, before a launch: download, extract, verify, record. No torch."""

import gzip
import io
import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

from jobs.catalog.catalog import PACKAGED, how_to_fetch
from jobs.catalog.dataset_card import DatasetCard, DatasetFormat
from jobs.data import idx
from jobs.data.locate import CALTECH101_IMAGES, own_directory, require, require_unchanged
from jobs.data.manifest import is_recorded, record_fetched
from jobs.data.raw import Raw
from jobs.data.readers import read_raw
from jobs.errors import Code, DamagedFile, InvalidRequest, MissingData
from jobs.system.download import Progress, download, writing
from jobs.system.files import open_file

_MOST_UNPACKED = 2 << 30
"""The largest unpacked archive: that of CIFAR-100 has 186 million bytes, that of Caltech101 137 million."""
_CALTECH101_ARCHIVE = f"{CALTECH101_IMAGES}.tar.gz"  # inside the zip file that is downloaded
_CALTECH101_IMAGE = re.compile(rf"(?:\./)?({CALTECH101_IMAGES}/\w[\w-]*/image_\d+\.jpg)")


def fetch(card: DatasetCard, mirror: str | None, on_progress: Callable[[str], Progress]) -> Path | None:
    """Ensure that a dataset is on this machine, verified and recorded.

    Files that are already there and valid are not downloaded again.

    Args:
        mirror: the URL of a folder with ``NAME/FILE``, used instead of the card's mirrors.
        on_progress: takes a file name and returns the callback that receives the progress of its download.

    Returns:
        The directory with the files; None for a dataset that is part of a package.

    Raises:
        InvalidRequest: if files are missing and the card, which is ``of`` a packaged dataset, has others.
        MissingData, DamagedFile, StorageFailure: see ``jobs.system.download.download``; no partial dataset is left.
    """
    if card.format is DatasetFormat.DIGITS:
        return None
    raw = _read_verified(card)
    if raw is None:
        _download_and_extract(card, mirror, on_progress)
        raw = read_raw(card)
    directory = require(card)
    if directory == own_directory(card) and not is_recorded(card):
        with _alone(directory):
            if not is_recorded(card):
                record_fetched(card, directory, raw.sha256)
    return directory


def _read_verified(card: DatasetCard) -> Raw | None:
    """Read the files on this machine if they can be verified by a digest of the card or of an earlier fetch."""
    digests_are_read = card.format in (DatasetFormat.CIFAR, DatasetFormat.SVHN)
    if card.files and not (card.sha256 or digests_are_read or is_recorded(card)):
        return None
    try:
        return read_raw(card)
    except (MissingData, DamagedFile):
        if card.files:
            return None
        raise


def _require_files_of_original(card: DatasetCard) -> None:
    """Refuse a variant with files of its own, which would replace those of the packaged dataset in its folder."""
    if card.of is None:
        return
    original = PACKAGED.dataset(card.of)
    own = [key for key in ("files", "members") if getattr(card, key) != getattr(original, key)]
    if own:
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"expected dataset {card.name!r}, which is of {card.of}, to have its {' and '.join(own)}; got others. Fix: "
            f"remove {' and '.join(own)} from its card; or, if it is another dataset, remove `of`",
            key=own[0],
        )


def _download_and_extract(card: DatasetCard, mirror: str | None, on_progress: Callable[[str], Progress]) -> None:
    _require_files_of_original(card)
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
    with _alone(directory):
        match card.format:
            case DatasetFormat.CIFAR:
                _extract_members(card, directory)
            case DatasetFormat.CALTECH101:
                _extract_caltech101(directory / card.files[0].name, directory)
            case DatasetFormat.IDX:
                _refuse_unpacked(card, directory)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Let one process change a dataset's files, or record them, while others wait."""
    with writing(directory), FileLock(directory / "extract.lock"):
        yield


def _refuse_unpacked(card: DatasetCard, directory: Path) -> None:
    """Refuse unpacked files that cannot be verified: they take precedence over packed ones, and only a digest of the
    images covers them.
    """
    unpacked = [path for stem in idx.FILES if (path := directory / stem).exists()]
    if unpacked and card.sha256 is None:
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"{unpacked[0]} cannot be verified: only the digests of the packed files are known. Fix: remove it and run "
            f"again: {how_to_fetch(card)}",
            file=unpacked[0],
        )


def _extract_members(card: DatasetCard, directory: Path) -> None:
    """Extract the members that the card lists from its archive, verify them, and only then move them into place."""
    archive = directory / card.files[0].name
    wanted = {member.name for member in card.members}
    with _extracting(archive, directory) as temporary:
        with open_file(archive) as packed:
            for name, content in _regular_files(packed):
                if name in wanted:
                    _write(content, temporary / name)
                    wanted.remove(name)
        if wanted:
            raise tarfile.TarError(f"it does not contain {', '.join(sorted(wanted))}")
        require_unchanged(temporary, card.members)
        for member in card.members:
            (directory / member.name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / member.name).replace(directory / member.name)


def _extract_caltech101(archive: Path, directory: Path) -> None:
    """Extract only the images from the tar file inside the zip file."""
    with _extracting(archive, directory) as temporary:
        with (
            zipfile.ZipFile(archive) as outer,
            outer.open(_only(archive, outer, _CALTECH101_ARCHIVE)) as packed,
        ):
            for name, content in _regular_files(packed):
                if match := _CALTECH101_IMAGE.fullmatch(name):
                    _write(content, temporary / match[1])
        target = directory / CALTECH101_IMAGES
        if target.exists():
            target.replace(temporary / "before")
        (temporary / CALTECH101_IMAGES).replace(target)


def _only(archive: Path, outer: zipfile.ZipFile, name: str) -> str:
    members = [inner for inner in outer.namelist() if inner.split("/")[-1] == name and not inner.startswith("__MACOSX")]
    if len(members) != 1:
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"expected {archive} to contain one {name}; got {len(members)}. Fix: remove it and fetch again",
            file=archive,
        )
    return members[0]


@contextmanager
def _extracting(archive: Path, directory: Path) -> Iterator[Path]:
    """Provide a temporary directory on the same disk; errors of a damaged archive become ``DamagedFile``."""
    for abandoned in directory.glob(".extracting-*"):  # left by a killed process; the caller holds the lock
        shutil.rmtree(abandoned)
    with tempfile.TemporaryDirectory(prefix=".extracting-", dir=directory) as temporary:
        try:
            yield Path(temporary)
        except (
            tarfile.TarError,
            gzip.BadGzipFile,
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            KeyError,
            FileNotFoundError,
        ) as error:
            raise DamagedFile(
                Code.DAMAGED_DATA,
                f"{archive} cannot be unpacked ({error}). Fix: remove it and fetch again",
                file=archive,
            ) from error


def _regular_files(packed: IO[bytes]) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield name and content of each regular file of a tar.gz file, in its order; each is read before the next one.

    Raises:
        tarfile.TarError: if it has more than ``_MOST_UNPACKED`` bytes.
    """
    with gzip.open(packed) as unpacked:
        bounded: Any = _Bounded(unpacked)
        with tarfile.open(fileobj=bounded, mode="r|") as tar:
            for member in tar:
                if member.isreg() and not member.issparse() and (content := tar.extractfile(member)) is not None:
                    yield member.name, content


class _Bounded(io.RawIOBase):
    """The beginning of a stream; reading more of it is an error."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self._left = _MOST_UNPACKED

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(self._left + 1 if size < 0 else min(size, self._left + 1))
        if len(data) > self._left:
            raise tarfile.TarError(f"it has more than {_MOST_UNPACKED:,} bytes, which no archive of its format has")
        self._left -= len(data)
        return data


def _write(content: IO[bytes], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with content, target.open("wb") as file:
        shutil.copyfileobj(content, file)
