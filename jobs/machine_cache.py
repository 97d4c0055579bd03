"""Arrays in files of this machine: written once, under a lock, read by all its processes, bounded in size.

Each row (the part of one image) has a checksum in its file, and is compared with it whenever it is read: what a disk or
a memory has changed since is found before a number is computed from it. It is CRC-32, against what goes wrong by itself
and not against what is meant to deceive: it finds every change within four neighbouring bytes, and misses one in 4e9 of
all others; sha256 would take twice as long.
"""

import fcntl
import hashlib
import math
import os
import shutil
import time
import warnings
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from jobs.errors import Code, DeltaSweepError, InvalidRequest, StorageFailure
from jobs.progress import progressed

Array = npt.NDArray[Any]

_SPARE = 0.05
"""Share of the disk that is left alone: results, checkpoints and Ray may lie on it, too."""
_CHECKSUM = np.dtype("<u4")
Chunks = Callable[[], Iterable[Array]]
"""Makes an array: its parts along the first axis, in order."""
_LOOK_SECONDS = 10.0
"""Between two looks at what another process writes."""


class MachineCache(NamedTuple):
    """The files of one directory. Deleting any of them at any time costs time only."""

    directory: Path
    variable: str
    """The environment variable that holds the limit, in GB."""
    default_gb: float

    def array(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike, chunks: Chunks) -> "StoredArray":
        """The array of a name, which one process writes while the others that ask for it wait.

        A file is put in its place when it is whole. One that is not what it should be is named and made again, now or
        when the row that is damaged is read. While it is in use it is not removed.

        Args:
            name: what the array is; another content has another name.
            chunks: called when there is no sound file, also while rows are read.

        Raises:
            OSError: when the file can be neither read nor written here.
            InvalidRequest: when the limit is no number.
        """
        return StoredArray(self, name, shape, np.dtype(dtype), chunks)

    def opened(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], chunks: Chunks) -> "OpenFile":
        """The file of an array, made if need be; as ``array``."""
        path = self.directory / f"{name}.npy"
        found = _open(path, shape, dtype)
        if found is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            with self._lock(f"{hashlib.sha256(name.encode()).hexdigest()[:2]}.lock"):  # a few for all names
                found = _open(path, shape, dtype)
                if found is None:
                    found = self._write(path, shape, dtype, chunks())
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

    def _write(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], chunks: Iterable[Array]) -> "OpenFile":
        """Write chunk by chunk; a full disk is an error before the first."""
        part = path.with_suffix(".part")
        checksums: list[int] = []
        try:
            with part.open("w+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                np.lib.format.write_array_header_1_0(file, {"descr": dtype.str, "fortran_order": False, "shape": shape})
                start = file.tell()
                self._reserve(part, file, _whole(start, shape, dtype))
                for chunk in chunks:
                    progressed()
                    data = np.ascontiguousarray(chunk, dtype)
                    checksums += map(zlib.crc32, data)
                    file.write(data.data)
                table = np.array(checksums, _CHECKSUM)
                file.write(table.tobytes())
                file.write(_digest(shape, dtype, table))
                file.flush()
                os.fsync(file.fileno())
                part.replace(path)
                fcntl.flock(file, fcntl.LOCK_SH)
                return OpenFile(os.dup(file.fileno()), start, table)
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


class OpenFile(NamedTuple):
    """A file that is locked as long as it is open."""

    handle: int
    start: int
    """Where its rows begin, in bytes."""
    checksums_N: npt.NDArray[np.uint32]


class StoredArray:
    """An array whose rows are read from a file when they are asked for, and compared with their checksums.

    Where a row is not what was written, or cannot be read, the file is named and made again.
    """

    def __init__(
        self, cache: MachineCache, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], chunks: Chunks
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self._cache = cache
        self._name = name
        self._chunks = chunks
        self._row_bytes = math.prod(shape[1:]) * dtype.itemsize
        self._take(cache.opened(name, shape, dtype, chunks))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | npt.NDArray[np.int64]) -> Array:
        """A copy of some rows.

        Raises:
            StorageFailure: when they are damaged also after the file was made again.
        """
        try:
            return self._read(rows)
        except (OSError, ValueError) as error:
            _say_damaged(self._path, error)
        try:
            self._make_again()
            return self._read(rows)
        except DeltaSweepError:
            raise
        except (OSError, ValueError) as error:
            raise StorageFailure(
                Code.STORAGE,
                f"{self._path} cannot be kept on this machine: rows that were made again are not what was written, or "
                f"cannot be ({error}). Fix: check the machine's disk and memory, then resume",
                file=self._path,
            ) from error

    @property
    def _path(self) -> Path:
        return self._cache.directory / f"{self._name}.npy"

    def _take(self, opened: OpenFile) -> None:
        self._file = opened
        self._close = weakref.finalize(self, os.close, opened.handle)

    def _make_again(self) -> None:
        """Take the file that another process has put there since, or make it."""
        with suppress(OSError):
            if os.path.samestat(self._path.stat(), os.fstat(self._file.handle)):
                self._path.unlink()
        self._close()
        self._take(self._cache.opened(self._name, self.shape, self.dtype, self._chunks))

    def _read(self, rows: slice | npt.NDArray[np.int64]) -> Array:
        """Raises ValueError, naming the first row that is not what was written."""
        numbers = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise IndexError(f"rows are 0 to {len(self) - 1}; asked for {numbers.min()} to {numbers.max()}")
        found = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        if not found.size:
            return found
        size, data, wanted = self._row_bytes, found.reshape(-1).view(np.uint8).data, numbers.tolist()
        starts = [at for at in range(len(wanted)) if at == 0 or wanted[at] != wanted[at - 1] + 1]
        for first, end in zip(starts, [*starts[1:], len(wanted)], strict=True):  # neighbours at once
            self._fill(data[first * size : end * size], wanted[first])
        expected = self._file.checksums_N[numbers].tolist()
        for at, number in enumerate(wanted):
            if zlib.crc32(data[at * size : (at + 1) * size]) != expected[at]:
                raise ValueError(f"row {number} is not what was written")
        return found

    def _fill(self, target: memoryview, row: int) -> None:
        at = self._file.start + row * self._row_bytes
        while target:
            count = os.preadv(self._file.handle, [target], at)
            if count == 0:
                raise ValueError("it was cut off")
            target, at = target[count:], at + count


def _open(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> OpenFile | None:
    """Open a file; None when it is not there, or is not what it should be: then it is named."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0(file)
            if header != (shape, False, dtype):
                raise ValueError(f"it holds {header[0]} of {header[2]}, not {shape} of {dtype}")
            start, size = file.tell(), os.fstat(file.fileno()).st_size
            if size != (whole := _whole(start, shape, dtype)):
                raise ValueError(f"it has {size:,} bytes, not {whole:,}: it was cut off, or an older DeltaSweep's")
            file.seek(start + math.prod(shape) * dtype.itemsize)
            table = np.frombuffer(file.read(shape[0] * _CHECKSUM.itemsize), _CHECKSUM)
            if file.read() != _digest(shape, dtype, table):
                raise ValueError("its checksums are not those that were written")
            with suppress(OSError):  # a home that is shared and cannot be written
                os.utime(path, ns=(time.time_ns(), os.fstat(file.fileno()).st_mtime_ns))
            return OpenFile(os.dup(file.fileno()), start, table)
    except FileNotFoundError:
        return None
    except (ValueError, EOFError) as error:
        _say_damaged(path, error)
        return None


def _say_damaged(path: Path, error: Exception) -> None:
    warnings.warn(f"{path} is damaged ({error}) and made again", stacklevel=3)


def _whole(start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Bytes of a file whose rows begin at ``start``: rows, their checksums, and the digest of these."""
    return start + math.prod(shape) * dtype.itemsize + shape[0] * _CHECKSUM.itemsize + hashlib.sha256().digest_size


def _digest(shape: tuple[int, ...], dtype: np.dtype[Any], table: npt.NDArray[np.uint32]) -> bytes:
    return hashlib.sha256(f"{dtype.str} {shape} ".encode() + table.tobytes()).digest()


def _written(path: Path) -> int:
    """When a file was last written, in nanoseconds; 0 when it has just gone."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _in_use(path: Path) -> bool:
    """Whether a process reads or writes it, or has just put it in its place."""
    try:
        with path.open("r+b") as file:  # on NFS only what may write can lock out others
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False
