"""Bytes under keys: the few operations of a results root, with what they guarantee.

Keys are relative, with forward slashes. An object is seen whole or not at all, by every reader, at any
moment, whatever is killed.
"""

import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from jobs.errors import InvalidRequest

_TEMPORARY = "_tmp"


class Store(ABC):
    """A results root's storage. Every method may be called from several processes at once."""

    uri: str

    @abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Put an object where none is. True: this call put it there, durably. False: one was there; it is untouched."""

    @abstractmethod
    def replace(self, key: str, data: bytes) -> None:
        """Put an object whether or not one is there; readers see the old or the new one, never a mixture."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """The object's bytes. Raises FileNotFoundError when there is none."""

    @abstractmethod
    def keys(self, prefix: str) -> Iterator[str]:
        """All keys below a prefix (a folder, without slash at its end), in no particular order."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""


class LocalStore(Store):
    """A directory of a POSIX file system; hard links make creation exclusive (design, section 4)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.uri = str(directory)

    def create(self, key: str, data: bytes) -> bool:
        target = self.directory / key
        temporary = self._write_temporary(data)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(temporary, target)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        _fsync_directory(target.parent)
        return True

    def replace(self, key: str, data: bytes) -> None:
        target = self.directory / key
        temporary = self._write_temporary(data)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(target)
        _fsync_directory(target.parent)

    def read(self, key: str) -> bytes:
        return (self.directory / key).read_bytes()

    def keys(self, prefix: str) -> Iterator[str]:
        for folder, _, files in os.walk(self.directory / prefix):
            for file in files:
                yield (Path(folder) / file).relative_to(self.directory).as_posix()

    def delete(self, key: str) -> None:
        (self.directory / key).unlink(missing_ok=True)

    def _write_temporary(self, data: bytes) -> Path:
        folder = self.directory / _TEMPORARY
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / uuid.uuid4().hex
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return temporary


def open_store(root: str | Path) -> Store:
    """The store of a results root: a directory, made when the first object is put into it.

    Raises:
        InvalidRequest: for a root that is a file, or a kind of storage that cannot be used.
    """
    text = str(root)
    if "://" in text:
        raise InvalidRequest(f"a results root is a directory; object stores are not supported yet; given: {text}")
    path = Path(text).expanduser().absolute()
    if path.exists() and not path.is_dir():
        raise InvalidRequest(f"a results root is a directory; {path} is a file. Name another place")
    return LocalStore(path)


def require_writable(store: Store) -> None:
    """Fail now rather than after the first hour of training.

    Raises:
        InvalidRequest: when nothing can be written below the root; nothing is left behind.
    """
    key = f"{_TEMPORARY}/write-test-{uuid.uuid4().hex}"
    try:
        store.create(key, b"")
        store.delete(key)
    except OSError as error:
        raise InvalidRequest(
            f"the results root must be writable; {store.uri} is not ({error.strerror}). "
            "Choose another with --results, or mend its permissions"
        ) from error


def _fsync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
