"""Opening what others have put under a name: a regular file, or an error that says what stands there instead.

A named pipe would wait for ever, a device gives bytes without end. Nothing here loads torch.
"""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NO_FILE = {errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENODEV, errno.EOPNOTSUPP}
"""What opening a link that is not followed, a socket or a device without a driver ends in."""


class NotAFile(OSError):
    """Something stands where a file must be, or a folder, and is none."""

    def __init__(self, path: str | Path, what: str, expected: str = "a file") -> None:
        """
        Args:
            what: what stands there, with its article.
            expected: what must stand there, with its article.
        """
        super().__init__(f"{path} is {what}, where {expected} must be")
        self.path = path
        self.what = what


class FileTooLarge(OSError):
    """A file has more bytes than any of its sort."""


def open_file(path: str | Path, *, shown: str | Path | None = None, folder: int | None = None) -> BufferedReader:
    """Open a regular file for reading, without waiting and without reading from anything else.

    Args:
        shown: the path that messages name; None: ``path``.
        folder: a descriptor that ``path`` is relative to; then its last part is no link. None: links are followed.

    Raises:
        NotAFile: saying what stands there.
        OSError: as ``os.open``.
    """
    follow = folder is None
    try:
        handle = os.open(path, _READ | (0 if follow else os.O_NOFOLLOW), dir_fd=folder)
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        raise NotAFile(shown or path, _kind_of(path, folder)) from error
    file = os.fdopen(handle, "rb") if stat.S_ISREG(mode := os.fstat(handle).st_mode) else None
    if file is None:
        os.close(handle)
        raise NotAFile(shown or path, words(mode))
    return file


def read_file(path: str | Path, most: int | None = None) -> bytes:
    """The bytes of a regular file; a link to one is followed.

    Args:
        most: the bytes that it may have; None: any number.

    Raises:
        FileTooLarge: when it has more; they are not read.
        NotAFile, OSError: as ``open_file``.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            raise FileTooLarge(f"{path} has {size:,} bytes, where {most:,} are the most that such a file has")
        return file.read()


def words(mode: int) -> str:
    """What a file of this mode is, with its article."""
    kinds = {
        stat.S_ISLNK: "a link",
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a named pipe (FIFO)",
        stat.S_ISSOCK: "a socket",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
    }
    return next((name for holds, name in kinds.items() if holds(mode)), "a file")


def _kind_of(path: str | Path, folder: int | None) -> str:
    try:
        return words(os.stat(path, dir_fd=folder, follow_symlinks=folder is None).st_mode)
    except OSError:
        return "a link that leads nowhere"
