"""Opening files at untrusted paths: only regular files are opened, and errors describe anything else. Replacing files.

Opening a named pipe could block forever, and a device can return an endless stream of bytes. Nothing here loads torch.
"""

import errno
import os
import stat
import uuid
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NO_FILE = {errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENODEV, errno.EOPNOTSUPP}
"""Error numbers from opening a link that is not followed, a socket, or a device without a driver."""


class NotAFile(OSError):
    """Something other than the expected file or folder is at a path."""

    def __init__(self, path: str | Path, what: str, expected: str = "a file") -> None:
        """Create the error with its message.

        Args:
            path: the path, for the message.
            what: what is at the path, with its article.
            expected: what should be there, with its article.
        """
        super().__init__(f"{path} is {what}; expected {expected}")
        self.path = path
        self.what = what


class FileTooLarge(OSError):
    """A file is larger than any valid file of its type."""


def open_file(path: str | Path, *, shown: str | Path | None = None, folder: int | None = None) -> BufferedReader:
    """Open a regular file for reading, without blocking; anything else is refused.

    Args:
        path: the path of the file.
        shown: the path to show in messages; None: ``path``.
        folder: descriptor of the folder that ``path`` is relative to; the last component must then not be a link.
            None: links are followed.

    Raises:
        NotAFile: describing what is at the path.
        OSError: as ``os.open``.
    """
    follow = folder is None
    try:
        handle = os.open(path, _READ | (0 if follow else os.O_NOFOLLOW), dir_fd=folder)
    except ValueError as error:  # it has a null character, or one that no file name can have
        raise NotAFile(shown or path, "not a possible path") from error
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        raise NotAFile(shown or path, _kind_of(path, folder)) from error
    file = os.fdopen(handle, "rb") if stat.S_ISREG(mode := os.fstat(handle).st_mode) else None
    if file is None:
        os.close(handle)
        raise NotAFile(shown or path, words(mode))
    return file


def line_of(error: UnicodeDecodeError) -> int:
    """Return the line of the first byte that is not in the encoding, from 1."""
    return error.object[: error.start].count(b"\n") + 1


def read_file(path: str | Path, most: int | None = None) -> bytes:
    """Return the bytes of a regular file; a link to one is followed.

    Args:
        path: the path of the file.
        most: the maximum size in bytes; None: no limit.

    Raises:
        FileTooLarge: if the file is larger; it is not read then.
        NotAFile, OSError: as ``open_file``.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            raise FileTooLarge(f"{path} has {size:,} bytes; expected at most {most:,}")
        return file.read()


def write_files(files: Mapping[Path, bytes], mode: int = 0o666) -> None:
    """Write files, or replace them, in existing folders: each is on the disk, complete, before any gets its name.

    They get their names in the order given. Any number of processes may write the same files, on several machines.

    Args:
        mode: the permissions of each file, from the beginning; the umask is applied.

    Raises:
        OSError: if they cannot be written; what was there before is unchanged, unless the disk failed in the moment in
            which they get their names.
    """
    parts = {path: path.with_name(f".{uuid.uuid4().hex}.part") for path in files}
    try:
        for path, part in parts.items():
            part.touch(mode, exist_ok=False)
            with part.open("wb") as file:
                file.write(files[path])
                file.flush()
                os.fsync(file.fileno())
        for path, part in parts.items():
            part.replace(path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def words(mode: int) -> str:
    """Describe the type of a file with this mode, with its article."""
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
        return "a link whose target does not exist"
