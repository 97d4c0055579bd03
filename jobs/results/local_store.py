"""A results root that is a directory of a POSIX file system."""

import errno
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from filelock import FileLock, Timeout

from jobs.errors import Code, DamagedFile, StorageFailure
from jobs.results.store import Store

TEMPORARY = "_tmp"
_LOCKS = f"{TEMPORARY}/locks"
_LOCK_SECONDS = 60.0
_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_OTHER_KIND = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EXDEV}


class LocalStore(Store):
    """A directory; hard links make creation exclusive, renames make replacement atomic (design, section 4).

    A file is written under ``_tmp``, fsynced, and only then given its name, so no reader sees half of one and a
    write that fails leaves nothing. Works between machines on a shared file system that has hard links (NFS
    has). A file system without them is refused: an exclusive empty file can be had there, an exclusive whole
    one cannot.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.uri = str(directory)

    def create(self, key: str, data: bytes) -> bool:
        target = self.directory / key
        with self._explained("written", key), self._temporary(data, durable=True) as temporary:
            self._make_folder(target.parent)
            created = self._link(temporary, target)
            # also when another process created it: it may not have come to this line yet
            _fsync_directory(target.parent)
        return created

    def replace(self, key: str, data: bytes, *, durable: bool = True) -> None:
        target = self.directory / key
        with self._explained("written", key), self._temporary(data, durable) as temporary:
            self._make_folder(target.parent)
            temporary.replace(target)
            if durable:
                _fsync_directory(target.parent)

    def swap(self, key: str, expected: bytes | None, data: bytes) -> bool:
        with self._explained("written", key), self._lock(key):
            try:
                present: bytes | None = (self.directory / key).read_bytes()
            except FileNotFoundError:
                present = None
            if present != expected:
                return False
            self.replace(key, data)
            return True

    def read(self, key: str) -> bytes:
        try:
            return (self.directory / key).read_bytes()
        except FileNotFoundError:
            raise
        except (NotADirectoryError, IsADirectoryError) as error:
            raise _other_kind(error) from error
        except OSError as error:
            raise self._failure("read", key, error) from error

    def read_within(self, key: str, most: int) -> bytes:
        with suppress(OSError):  # reading says what is wrong
            self._require_small(key, (self.directory / key).stat().st_size, most)
        return self.read(key)

    def keys(self, prefix: str) -> Iterator[str]:
        with self._explained("listed", prefix):
            try:
                for folder, _, files in os.walk(self.directory / prefix, onerror=_raise_unless_absent):
                    below = Path(folder).relative_to(self.directory).as_posix()
                    yield from (f"{below}/{file}" for file in files)
            except NotADirectoryError as error:
                raise _other_kind(error) from error

    def delete(self, key: str) -> None:
        with self._explained("removed", key):
            (self.directory / key).unlink(missing_ok=True)

    def stale(self, age: timedelta) -> list[str]:
        before = time.time() - age.total_seconds()
        folder = self.directory / TEMPORARY
        with self._explained("listed", TEMPORARY):
            files = [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
            return sorted(f"{TEMPORARY}/{path.name}" for path in files if _modified(path) < before)

    @contextmanager
    def _temporary(self, data: bytes, durable: bool) -> Iterator[Path]:
        """The data in a file under ``_tmp`` that is gone at the end, unless it was renamed."""
        folder = self.directory / TEMPORARY
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / uuid.uuid4().hex
        try:
            with path.open("wb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _link(self, temporary: Path, target: Path) -> bool:
        try:
            os.link(temporary, target)
        except FileExistsError:
            # NFS repeats a request whose reply was lost, and then finds its own link
            return temporary.samefile(target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            raise StorageFailure(
                Code.WRONG_PLACE,
                "a results root lies on a file system with hard links, which make a result appear once and whole; "
                f"{self.uri} refused one ({error.strerror}). Name a directory on another file system, or an s3:// "
                "or gs:// root",
                file=self.uri,
                key="--results",
            ) from error
        return True

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and its parents, each name durable like the file that will lie there."""
        if folder.is_dir():
            return
        if folder != folder.parent:
            self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _fsync_directory(folder.parent)

    @contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        folder = self.directory / _LOCKS
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder / f"{key.replace('/', '-')}.lock", timeout=_LOCK_SECONDS):
                yield
        except Timeout as error:
            raise StorageFailure(
                Code.STORAGE,
                f"{self.uri}/{key} is locked by another process for more than {_LOCK_SECONDS:.0f} s; "
                "look for one that hangs, end it, and repeat",
                file=f"{self.uri}/{key}",
            ) from error

    @contextmanager
    def _explained(self, done: str, key: str) -> Iterator[None]:
        try:
            yield
        except StorageFailure:
            raise
        except OSError as error:
            raise self._failure(done, key, error) from error

    def _failure(self, done: str, key: str, error: OSError) -> StorageFailure:
        file = f"{self.uri}/{key}"
        what = f"{file} cannot be {done} ({error.strerror or error}); what stood there before is untouched. "
        if error.errno in _OTHER_KIND and error.filename:
            other = _other_kind(error)
            return StorageFailure(other.code, f"the results root is damaged: {what}{other}", file=other.place.file)
        message = f"the results root fails: {what}Check that it is mounted and its disk is well, then resume"
        if error.errno in _FULL:
            message = f"the results root is full: {what}Free some space and resume"
        if error.errno in _REFUSED:
            message = f"the results root refuses: {what}Mend its permissions, or how it is mounted"
        return StorageFailure(Code.STORAGE, message, file=file)


def _other_kind(error: OSError) -> DamagedFile:
    """The error that names a folder where a file must be, or a file where a folder must be."""
    path = Path(error.filename2 or error.filename)
    if path.is_dir():
        return DamagedFile(Code.WRONG_PLACE, f"{path} is a folder, where a file must be; move it away", file=path)
    file = next((part for part in (path, *path.parents) if part.is_file()), path)
    return DamagedFile(Code.WRONG_PLACE, f"{file} is a file, where a folder must be; move it away", file=file)


def _fsync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # some network file systems cannot fsync a directory; there its names are durable by themselves or never
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)


def _raise_unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _modified(path: Path) -> float:
    """When a file was last written; now, if it has just gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()
