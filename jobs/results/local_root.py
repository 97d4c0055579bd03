"""The directory of a results root, held open: what is read, written or removed lies in it, whatever its path becomes.

A path may come to name something else while a trial runs: a disk is unmounted and leaves the directory underneath, a
root is renamed, removed or replaced. Folders in a root may be links that lead elsewhere. So every operation finds the
directory that the first one found, or raises ``RootGone``, and goes down from its descriptor without following links.
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
from jobs.files import NotAFile, words
from jobs.results.store import root_gone

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENOTCONN, errno.ELOOP}
MAY_BE_A_LINK = "trials"
"""The one folder of a root that may lie elsewhere, as a whole."""


class LocalRoot:
    """A directory that is made at most once, and is the same from the first look at it on."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._held: int | None = None
        self._identity: tuple[int, int] | None = None

    def __reduce__(self) -> tuple[type["LocalRoot"], tuple[Path]]:
        """A descriptor is its process's own."""
        return LocalRoot, (self._directory,)

    @contextmanager
    def folder(self, parts: Sequence[str], *, make: bool = False) -> Iterator[int]:
        """The descriptor of a folder of the root, as long as the context lasts.

        Args:
            parts: the names on the way to it; none: the root itself.
            make: make what is missing, each name durable; the root itself only where none was ever seen.

        Raises:
            FileNotFoundError: when it is not there, and is not to be made.
            NotAFile: naming a link, or something else that is no folder, on the way.
            RootGone: when the root is not there any more, or another directory is in its place.
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
        """The keys of all files in and below a folder, hidden ones left out: they are nobody's.

        Args:
            parts: the names on the way to it.
            stranger: told of what is neither a file nor a folder; it is passed over.

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
                    stranger(NotAFile(self._directory.joinpath(*parts, shown), "a name that is no UTF-8", "one"))
                elif entry.is_file(follow_symlinks=False):
                    yield below + name
                elif entry.is_dir(follow_symlinks=False) or (not parts and name == MAY_BE_A_LINK):
                    folders.append(name)
                else:
                    with suppress(FileNotFoundError):  # removed meanwhile
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
        """The descriptor of a folder, named by the last part, in that of its parent; the caller closes it."""
        follow = tuple(parts) == (MAY_BE_A_LINK,)
        try:
            return os.open(parts[-1], _FOLDER | (0 if follow else os.O_NOFOLLOW), dir_fd=parent)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP) and not (follow and error.errno == errno.ENOENT):
                raise
            mode = os.stat(parts[-1], dir_fd=parent, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):  # just made
                raise
            raise NotAFile(self._directory.joinpath(*parts), words(mode), "a folder") from error

    def _inner(self, parent: int, parts: Sequence[str], name: str, make: bool) -> int:
        try:
            return self._open_folder(parent, parts)
        except FileNotFoundError:
            if not make:
                raise
        with suppress(FileExistsError):  # another made it
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
                raise self._gone("is not there any more") from error
            raise
        if (found.st_dev, found.st_ino) != self._identity:
            raise self._gone("is another directory now")
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
    """Make the names in a folder durable."""
    try:
        os.fsync(handle)
    except OSError as error:
        # some network file systems cannot fsync a directory; there its names are durable by themselves or never
        if error.errno != errno.EINVAL:
            raise


def _make(directory: Path) -> None:
    """Make a directory and its parents, each name durable."""
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
    """A name as the system gives it; bytes that are no UTF-8 are written out."""
    return os.fsencode(name).decode(errors="backslashreplace")
