"""Arrays in files of this machine: written once, under a lock, mapped by all its processes, bounded in size."""

import fcntl
import hashlib
import math
import mmap
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from jobs.errors import Code, InvalidRequest
from jobs.progress import progressed

Array = npt.NDArray[Any]

_DIGEST = hashlib.sha256
_SPARE = 0.05
"""Share of the disk that is left alone: results, checkpoints and Ray may lie on it, too."""
_LOOK_SECONDS = 10.0
"""Between two looks at what another process writes."""
_MAPPING = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
"""Without a reservation a file may be larger than memory: its pages are never written to."""
_sound: set[tuple[int, int, int]] = set()
"""Files that this process has verified or written: device, inode, time of writing."""


class MachineCache(NamedTuple):
    """The files of one directory. Deleting any of them at any time costs time only."""

    directory: Path
    variable: str
    """The environment variable that holds the limit, in GB."""
    default_gb: float

    def array(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        chunks: Callable[[], Iterable[Array]],
        *,
        verified: bool,
    ) -> Array:
        """A private mapping of the array of a name, which one process writes while the others that ask for it wait.

        A file is put in its place when it is whole. One that is not what it should be is named and made again.
        While it is mapped it is not removed.

        Args:
            name: what the array is; another content has another name.
            chunks: the array's parts along its first axis, in order.
            verified: whether to hold the bytes against the digest written with them, once a process.

        Raises:
            OSError: when the file can be neither read nor written here.
            InvalidRequest: when the limit is no number.
        """
        path = self.directory / f"{name}.npy"
        found = _map(path, shape, np.dtype(dtype), verified)
        if found is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            with self._lock(f"{_DIGEST(name.encode()).hexdigest()[:2]}.lock"):  # a few for all names
                found = _map(path, shape, np.dtype(dtype), verified)
                if found is None:
                    found = self._write(path, shape, np.dtype(dtype), chunks())
        return found

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """Wait for whoever writes; that is progress as long as something is written."""
        lock, written = FileLock(self.directory / name), 0
        while True:
            try:
                lock.acquire(timeout=_LOOK_SECONDS)
                break
            except Timeout:
                newest = max((_written(part) for part in self.directory.glob("*.part")), default=0)
                if newest > written:
                    progressed()
                written = newest
        try:
            yield
        finally:
            lock.release()

    def _write(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], chunks: Iterable[Array]) -> Array:
        """Write chunk by chunk: a full disk is then an error, where a mapping would kill the process."""
        part = path.with_suffix(".part")
        try:
            with part.open("w+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                self._reserve(part, file, math.prod(shape) * dtype.itemsize)
                header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                start = file.tell()
                digest = _DIGEST()
                for chunk in chunks:
                    progressed()
                    data = np.ascontiguousarray(chunk).data
                    digest.update(data)
                    file.write(data)
                file.write(digest.digest())
                file.flush()
                os.fsync(file.fileno())
                part.replace(path)
                fcntl.flock(file, fcntl.LOCK_SH)
                _sound.add(_identity(file))
                return _mapping(file, shape, dtype, start)
        finally:
            part.unlink(missing_ok=True)

    def _reserve(self, part: Path, file: BinaryIO, size: int) -> None:
        """Make room, and take it from the beginning, so that others count it and find it gone."""
        with FileLock(self.directory / "room.lock"):
            self._make_room(size, part)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:  # macOS: others count it, but do not find its room gone
                file.truncate(size)

    def _make_room(self, needed: int, part: Path) -> None:
        """Remove the files not used for longest, and by nobody now, until ``needed`` bytes fit into limit and disk.

        Args:
            part: the file that the room is for.

        Raises:
            OSError: when they would not fit even then; nothing is removed.
        """
        disk = shutil.disk_usage(self.directory)
        limit, free = self._limit(), disk.free - int(_SPARE * disk.total)
        files = []
        for path in self.directory.iterdir():
            with suppress(FileNotFoundError):  # a part that has just become whole
                if path.suffix in (".npy", ".part") and path != part:
                    files.append((path, path.stat()))
        unused = sorted((found for found in files if not _in_use(found[0])), key=lambda found: found[1].st_atime_ns)
        used, removable = (sum(stat.st_size for _, stat in some) for some in (files, unused))
        if needed > limit:
            raise OSError(f"{needed:,} bytes are more than its limit, ${self.variable} ({limit / 1e9:g} GB)")
        if used - removable + needed > limit:
            raise OSError(f"{needed:,} bytes are needed and {used - removable:,} of ${self.variable} are in use")
        if needed > free + removable:
            raise OSError(f"{needed:,} bytes are needed and {max(free, 0):,} free beside {_SPARE:.0%} spare")
        for path, stat in unused:
            if used + needed <= limit and needed <= free:
                return
            used, free = used - stat.st_size, free + stat.st_size
            path.unlink(missing_ok=True)

    def _limit(self) -> float:
        text = os.environ.get(self.variable, str(self.default_gb))
        try:
            return float(text) * 1e9
        except ValueError as error:
            raise InvalidRequest(
                Code.WRONG_VALUE,
                f"${self.variable} is a number of gigabytes; it is {text!r}",
                key=f"${self.variable}",
            ) from error


def _map(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], verified: bool) -> Array | None:
    """Map a file; None when it is not there, or is not what it should be: then it is named."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0(file)
            if header != (shape, False, dtype):
                raise ValueError(f"it holds {header[0]} of {header[2]}, not {shape} of {dtype}")
            start = file.tell()
            found = _mapping(file, shape, dtype, start)
            if verified and _identity(file) not in _sound:
                file.seek(start + found.nbytes)
                if file.read() != _DIGEST(found.data).digest():
                    raise ValueError("its bytes are not those that were written")
                _sound.add(_identity(file))
            with suppress(OSError):  # a home that is shared and cannot be written
                os.utime(path, ns=(time.time_ns(), os.fstat(file.fileno()).st_mtime_ns))
            return found
    except FileNotFoundError:
        return None
    except (ValueError, EOFError) as error:
        warnings.warn(f"{path} is damaged ({error}) and made again", stacklevel=2)
        return None


def _mapping(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any], start: int) -> Array:
    """It shares the file's lock, which lasts until the mapping is gone. Copy-on-write: torch warns of read-only arrays,
    and nothing that is done to a tensor may reach the file.
    """
    size = math.prod(shape) * dtype.itemsize
    memory = mmap.mmap(file.fileno(), start + size, _MAPPING, mmap.PROT_READ | mmap.PROT_WRITE)
    return np.frombuffer(memory, dtype, math.prod(shape), start).reshape(shape)


def _written(path: Path) -> int:
    """When a file was last written, in nanoseconds; 0 when it has just gone."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _identity(file: BinaryIO) -> tuple[int, int, int]:
    stat = os.fstat(file.fileno())
    return stat.st_dev, stat.st_ino, stat.st_mtime_ns


def _in_use(path: Path) -> bool:
    """Whether a process maps or writes it, or has just put it in its place."""
    try:
        with path.open("r+b") as file:  # on NFS only what may write can lock out others
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False
