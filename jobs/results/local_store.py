"""A results root in a directory of a POSIX file system."""

import errno
import hashlib
import os
import re
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from io import BufferedReader
from pathlib import Path

from filelock import FileLock, Timeout

from jobs.errors import Code, DamagedFile, StorageFailure, out_of_memory
from jobs.results.local_root import MAY_BE_A_LINK, LocalRoot, fsync_folder
from jobs.results.store import Store, Survey
from jobs.specs.base import NAME_BYTES
from jobs.system.files import NotAFile, open_file, words

TEMPORARY = "_tmp"
WRITE_TEST = "write-test-"
"""Prefix of the names of files that test whether a root is writable."""
_LOCKS = f"{TEMPORARY}/locks"
_OWN_TEMPORARY = re.compile(rf"(?:{WRITE_TEST})?[0-9a-f]{{32}}")
_OWN_LOCK = re.compile(r"[\w.-]+\.lock")
_LOCK_SECONDS = 60.0
_TRIES = 5
"""Attempts to create a file in a folder that other processes remove while it is empty."""
_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_IMPOSSIBLE = {errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}
"""The path cannot be created: it is below /proc, or its name is too long."""
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}


class LocalStore(Store):
    """A directory; hard links make creation exclusive, and renames make replacement atomic.

    See docs/decisions/object-store.md.

    A file is written in ``_tmp``, fsynced, and only then given its name, so readers never see a partial file and a
    failed write leaves nothing behind. This works across machines on a shared file system with hard links, such as
    NFS. A file system without hard links is refused: it can create an empty file exclusively, but not a complete one.

    The first write creates the directory, unless this store has opened it before, in which case it has disappeared
    (``LocalRoot``). Links in it are not followed, and only regular files are opened.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.uri = str(directory)
        self._root = LocalRoot(directory)

    def create(self, key: str, data: bytes) -> bool:
        def link(folder: int, name: str, temporaries: int, temporary: str) -> bool:
            created = self._link(temporaries, temporary, folder, name)
            # even if another process created it, which may not have reached this line yet
            fsync_folder(folder)
            return created

        return self._put(key, data, link, durable=True)

    def replace(self, key: str, data: bytes, *, durable: bool = True) -> None:
        def rename(folder: int, name: str, temporaries: int, temporary: str) -> bool:
            self._require_file_or_nothing(folder, name, key)
            os.replace(temporary, name, src_dir_fd=temporaries, dst_dir_fd=folder)
            if durable:
                fsync_folder(folder)
            return True

        self._put(key, data, rename, durable)

    def swap(self, key: str, expected: bytes | None, data: bytes) -> bool:
        self.require_held()
        with self._explained("written", key), self._lock(key):
            try:
                present: bytes | None = self._read(key)
            except FileNotFoundError:
                present = None
            if present != expected:
                return False
            self.replace(key, data)
            return True

    def read(self, key: str) -> bytes:
        with self._explained("read", key, writing=False):
            return self._read(key)

    def read_within(self, key: str, most: int) -> bytes:
        with self._explained("read", key, writing=False):
            return self._read(key, most)

    def sha256_within(self, key: str, most: int) -> str:
        with self._explained("read", key, writing=False), self._opened(key, most) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def read_start(self, key: str, size: int) -> bytes:
        with self._explained("read", key, writing=False), self._opened(key) as file:
            return file.read(size)

    def written_at(self, key: str) -> datetime:
        *parts, name = _parts(key)
        with self._explained("read", key, writing=False), self._root.folder(parts) as folder:
            return datetime.fromtimestamp(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime, UTC)

    def keys(self, prefix: str) -> Iterator[str]:
        def refuse(error: NotAFile) -> None:
            raise error

        return self._keys(prefix, refuse)

    def survey(self, prefix: str) -> Survey:
        strangers: list[NotAFile] = []
        try:
            keys = list(self._keys(prefix, strangers.append))
        except DamagedFile as error:  # the prefix, or one of its parents, is not a folder
            return Survey([], {self._key_of(error.place.file): error})
        return Survey(keys, {self._key_of(error.path): _damaged(error) for error in strangers})

    def delete(self, key: str) -> None:
        self.require_held()
        *parts, name = _parts(key)
        with self._explained("removed", key), suppress(FileNotFoundError):
            with self._root.folder(parts) as folder:
                self._require_file_or_nothing(folder, name, key)
                os.unlink(name, dir_fd=folder)
            self._remove_empty(parts)

    def stale(self, age: timedelta) -> list[str]:
        before = time.time() - age.total_seconds()
        names = []
        with (
            self._explained("listed", TEMPORARY),
            suppress(FileNotFoundError),
            self._root.folder([TEMPORARY]) as folder,
            os.scandir(folder) as entries,
        ):
            for entry in entries:
                own = _OWN_TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
                with suppress(FileNotFoundError):  # it has just been removed
                    if own and entry.stat(follow_symlinks=False).st_mtime < before:
                        names.append(f"{TEMPORARY}/{entry.name}")
        return sorted(names)

    def _key_of(self, path: str | Path) -> str:
        return Path(path).relative_to(self.directory).as_posix()

    def _stands(self, key: str) -> bool:
        *parts, name = _parts(key)
        try:
            with self._explained("read", key, writing=False), self._root.folder(parts) as folder:
                return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False

    def _read(self, key: str, most: int | None = None) -> bytes:
        with self._opened(key, most) as file:
            return file.read()

    @contextmanager
    def _opened(self, key: str, most: int | None = None) -> Iterator[BufferedReader]:
        """Open a file for reading; with ``most``, one that has more bytes is refused."""
        *parts, name = _parts(key)
        with (
            self._root.folder(parts) as folder,
            open_file(name, shown=self.directory / key, folder=folder) as file,
        ):
            if most is not None:
                self._require_small(key, os.fstat(file.fileno()).st_size, most)
            yield file

    def _keys(self, prefix: str, stranger: Callable[[NotAFile], None]) -> Iterator[str]:
        with self._explained("listed", prefix, writing=False), suppress(FileNotFoundError):
            yield from self._root.keys(_parts(prefix) if prefix else [], stranger)

    def _put(self, key: str, data: bytes, place: Callable[[int, str, int, str], bool], durable: bool) -> bool:
        """Write the data to a file in ``_tmp``, then call ``place`` to give it its name."""
        self.require_held()
        *parts, name = _parts(key)
        with self._explained("written", key), self._temporary(data, durable) as (temporaries, temporary):
            for left in reversed(range(_TRIES)):
                try:
                    with self._root.folder(parts, make=True) as folder:
                        return place(folder, name, temporaries, temporary)
                except FileNotFoundError:  # another process removed the folder, which was still empty
                    if not left:
                        raise
        raise AssertionError("the last try returns or raises")

    @contextmanager
    def _temporary(self, data: bytes, durable: bool) -> Iterator[tuple[int, str]]:
        """Write the data to a file in ``_tmp`` and provide its folder and name; it is removed at the end, unless it
        was renamed.
        """
        with self._root.folder([TEMPORARY], make=True) as folder:
            name = uuid.uuid4().hex
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                with os.fdopen(os.open(name, flags, 0o666, dir_fd=folder), "wb") as file:
                    file.write(data)
                    file.flush()
                    if durable:
                        os.fsync(file.fileno())
                yield folder, name
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)

    def _link(self, temporaries: int, temporary: str, folder: int, name: str) -> bool:
        try:
            os.link(temporary, name, src_dir_fd=temporaries, dst_dir_fd=folder)
        except FileExistsError:
            # NFS repeats a request whose reply was lost, and may then find its own link
            own, standing = os.stat(temporary, dir_fd=temporaries), os.stat(name, dir_fd=folder, follow_symlinks=False)
            return os.path.samestat(own, standing)
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise self._elsewhere() from error
            if error.errno not in _NO_LINKS:
                raise
            raise StorageFailure(
                Code.WRONG_PLACE,
                "expected a results root on a file system with hard links, which create results atomically and only "
                f"once; {self.uri} does not support them ({error.strerror}). Fix: specify a directory on another file "
                "system, or an s3:// or gs:// root",
                file=self.uri,
                key="--results",
            ) from error
        return True

    def require_one_file_system(self) -> None:
        """Require that results are on the file system of the root, even if their folder is a link: a hard link from
        a temporary file creates each of them.

        Raises:
            StorageFailure: if they are not.
        """
        with self._explained("read", MAY_BE_A_LINK, writing=False), suppress(FileNotFoundError):
            if (self.directory / MAY_BE_A_LINK).stat().st_dev != self.directory.stat().st_dev:
                raise self._elsewhere()

    def _elsewhere(self) -> StorageFailure:
        return StorageFailure(
            Code.WRONG_PLACE,
            f"expected results on the file system of their root; {self.uri}/{MAY_BE_A_LINK} is on another one, because "
            "it is a link or a mount. Fix: move the whole root to that file system, and link to the root",
            file=f"{self.uri}/{MAY_BE_A_LINK}",
            key="--results",
        )

    def _require_file_or_nothing(self, folder: int, name: str, key: str) -> None:
        try:
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISREG(mode):
            raise NotAFile(self.directory / key, words(mode))

    def _remove_empty(self, parts: list[str]) -> None:
        """Remove the folders on the path to a key that are now empty, except for the first."""
        for depth in range(len(parts) - 1, 0, -1):
            try:
                with self._root.folder(parts[:depth]) as parent:
                    os.rmdir(parts[depth], dir_fd=parent)
            except OSError:  # not empty, or already removed; nothing depends on it
                return

    @contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        name = f"{key.replace('/', '-')}.lock"
        if len(os.fsencode(name)) > NAME_BYTES:
            name = f"{hashlib.sha256(key.encode()).hexdigest()}.lock"
        with self._root.folder(_LOCKS.split("/"), make=True) as folder:
            self._require_file_or_nothing(folder, name, f"{_LOCKS}/{name}")
        try:
            with FileLock(self.directory / _LOCKS / name, timeout=_LOCK_SECONDS):
                yield
        except Timeout as error:
            raise StorageFailure(
                Code.STORAGE,
                f"{self.uri}/{key} has been locked by another process for more than {_LOCK_SECONDS:.0f} s. "
                "Fix: find the process that hangs, stop it, and try again",
                file=f"{self.uri}/{key}",
            ) from error

    @contextmanager
    def _explained(self, done: str, key: str, *, writing: bool = True) -> Iterator[None]:
        """Convert errors of the file system to errors of a store.

        Args:
            done: the failed operation, as a past participle for messages.
            key: the key of the object.
            writing: True: every error becomes a ``StorageFailure``. False: ``FileNotFoundError`` is passed on, and
                anything that is not a file becomes ``DamagedFile``.
        """
        try:
            yield
        except StorageFailure:
            raise
        except MemoryError as error:
            raise out_of_memory(error, f"{self.uri}/{key}") from error
        except FileNotFoundError as error:
            if not writing:
                raise
            raise self._failure(done, key, error) from error
        except NotAFile as error:
            damaged = _damaged(error)
            if not writing:
                raise damaged from error
            raise StorageFailure(
                damaged.code,
                f"the results root is damaged: {self.uri}/{key} cannot be {done}. {damaged}",
                file=damaged.place.file,
            ) from error
        except OSError as error:
            raise self._failure(done, key, error) from error

    def _failure(self, done: str, key: str, error: OSError) -> StorageFailure:
        file = f"{self.uri}/{key}"
        what = f"{file} cannot be {done} ({error.strerror or error}); its previous contents are unchanged. "
        message = f"the results root failed: {what}Fix: check that it is mounted and its disk works, then resume"
        if error.errno in _FULL:
            message = f"the results root is full: {what}Fix: free some space, then resume"
        if error.errno in _REFUSED:
            message = f"the results root denied access: {what}Fix: change its permissions, or how it is mounted"
        return StorageFailure(Code.STORAGE, message, file=file, refuses=error.errno in _REFUSED | _IMPOSSIBLE)


def is_temporary(key: str) -> bool:
    """Return whether a key under ``_tmp`` has the name of a temporary file or lock of a store."""
    folder, _, name = key.rpartition("/")
    pattern = {TEMPORARY: _OWN_TEMPORARY, _LOCKS: _OWN_LOCK}.get(folder)
    return pattern is not None and pattern.fullmatch(name) is not None


def _damaged(error: NotAFile) -> DamagedFile:
    """Return the error for something that is not the expected file or folder."""
    remedy = "move it away"
    if error.what.startswith("a link"):
        remedy = f"replace it with its target (a results root may not contain links, except `{MAY_BE_A_LINK}`)"
    return DamagedFile(Code.WRONG_PLACE, f"{error}. Fix: {remedy}", file=error.path)


def _parts(key: str) -> list[str]:
    """Return the components of a key; keys also come from untrusted records, and must not leave the root."""
    parts = key.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise DamagedFile(Code.WRONG_PLACE, f"{key!r} is not a valid key in a results root", file=key)
    return parts
