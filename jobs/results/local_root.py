"""The directory of a results root, kept open so that all operations happen inside it even if its path changes.

While a trial runs, the path may come to refer to something else: a disk is unmounted and exposes the directory
underneath, or a root is renamed, removed or replaced. Folders in a root may be links to other places. Therefore every
operation uses the directory that the first one opened, or raises ``RootGone``, and descends from its descriptor without
following links.
"""

import errno
import os
import stat
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from jobs.errors import RootGone
from jobs.results.store import root_gone
from jobs.system.files import NotAFile, words

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENOTCONN, errno.ELOOP}
MAY_BE_A_LINK = "trials"
"""The only folder in a root that may be a link to another place."""


class LocalRoot:
    """A directory that is created at most once and must stay the same directory after it was first opened."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._held: int | None = None
        self._identity: tuple[int, int] | None = None

    def __reduce__(self) -> tuple[type["LocalRoot"], tuple[Path]]:
        """Support pickling without the descriptor, which is valid only in this process."""
        return LocalRoot, (self._directory,)

    @contextmanager
    def folder(self, parts: Sequence[str], *, make: bool = False) -> Iterator[int]:
        """Provide the descriptor of a folder in the root for the duration of the context.

        Args:
            parts: the components of its path; empty: the root itself.
            make: create missing folders durably; the root itself only if it was never opened before.

        Raises:
            FileNotFoundError: if it does not exist and is not to be created.
            NotAFile: naming a link or anything else on the path that is not a folder.
            RootGone: if the root no longer exists, or was replaced by another directory.
        """
        root = handle = self._descriptor(make)
        try:
            for depth, name in enumerate(parts):
                inner = self._inner(handle, parts[: depth + 1], name, make)
                if handle != root:
                    os.close(handle)
                handle = inner
            yield handle
        finally:
            if handle != root:
                os.close(handle)

    def keys(self, parts: Sequence[str], stranger: Callable[[NotAFile], None]) -> Iterator[str]:
        """Yield the keys of all files in and below a folder, except hidden ones.

        Args:
            parts: the components of its path.
            stranger: called with each entry that is neither a file nor a folder; such entries are skipped.

        Raises:
            FileNotFoundError, NotAFile, RootGone: as ``folder``.
        """
        with self.folder(parts) as handle:
            yield from self._listed(handle, parts, stranger)

    def _listed(self, handle: int, parts: Sequence[str], stranger: Callable[[NotAFile], None]) -> Iterator[str]:
        below, folders = "".join(f"{part}/" for part in parts), []
        with os.scandir(handle) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                if not name.isascii() and (shown := _as_text(name)) != name:
                    stranger(NotAFile(self._directory.joinpath(*parts, shown), "not valid UTF-8", "a UTF-8 name"))
                elif entry.is_file(follow_symlinks=False):
                    yield below + name
                elif entry.is_dir(follow_symlinks=False) or (not parts and name == MAY_BE_A_LINK):
                    folders.append(name)
                else:
                    with suppress(FileNotFoundError):  # removed in the meantime
                        mode = entry.stat(follow_symlinks=False).st_mode
                        stranger(NotAFile(self._directory.joinpath(*parts, name), words(mode), "a file or folder"))
        for name in folders:
            try:
                inner = self._open_folder(handle, [*parts, name])
            except FileNotFoundError:
                continue
            except NotAFile as error:
                stranger(error)
                continue
            try:
                yield from self._listed(inner, [*parts, name], stranger)
            finally:
                os.close(inner)

    def _open_folder(self, parent: int, parts: Sequence[str]) -> int:
        """Open the folder named by the last part, relative to its parent's descriptor; the caller closes it."""
        follow = tuple(parts) == (MAY_BE_A_LINK,)
        try:
            return os.open(parts[-1], _FOLDER | (0 if follow else os.O_NOFOLLOW), dir_fd=parent)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP) and not (follow and error.errno == errno.ENOENT):
                raise
            mode = os.stat(parts[-1], dir_fd=parent, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):  # just created
                raise
            raise NotAFile(self._directory.joinpath(*parts), words(mode), "a folder") from error

    def _inner(self, parent: int, parts: Sequence[str], name: str, make: bool) -> int:
        try:
            return self._open_folder(parent, parts)
        except FileNotFoundError:
            if not make:
                raise
        with suppress(FileExistsError):  # created by another process
            os.mkdir(name, dir_fd=parent)
            fsync_folder(parent)
        return self._open_folder(parent, parts)

    def _descriptor(self, make: bool) -> int:
        with self._lock:
            held = self._held if self._held is not None else self._first(make)
        try:
            found = self._directory.stat()
        except OSError as error:
            if error.errno in _GONE:
                raise self._gone("no longer exists") from error
            raise
        if (found.st_dev, found.st_ino) != self._identity:
            raise self._gone("is now a different directory")
        return held

    def _first(self, make: bool) -> int:
        if make:
            _make(self._directory)
        handle = os.open(self._directory, _FOLDER)
        weakref.finalize(self, os.close, handle)
        found = os.fstat(handle)
        self._held, self._identity = handle, (found.st_dev, found.st_ino)
        return handle

    def _gone(self, how: str) -> RootGone:
        return root_gone(str(self._directory), f"the directory {how}: it was unmounted, renamed, removed or replaced")


def fsync_folder(handle: int) -> None:
    """Make the entries of a folder durable."""
    try:
        os.fsync(handle)
    except OSError as error:
        # some network file systems cannot fsync a directory; there, nothing more can be done for its entries
        if error.errno != errno.EINVAL:
            raise


def _make(directory: Path) -> None:
    """Create a directory and its parents durably."""
    if directory.is_dir():
        return
    if directory != directory.parent:
        _make(directory.parent)
    directory.mkdir(exist_ok=True)
    handle = os.open(directory.parent, _FOLDER)
    try:
        fsync_folder(handle)
    finally:
        os.close(handle)


def _as_text(name: str) -> str:
    """Return a file name as text; bytes that are not UTF-8 are escaped."""
    return os.fsencode(name).decode(errors="backslashreplace")
