"""Arrays cached in local files: written once under a lock, read by all processes of a machine, bounded in total size.

Each row (the data of one image, or some lines of one) has a checksum in the file that is verified at every read, so
that corruption by the disk or memory is detected before anything is computed from it. The checksum is CRC-32, which
protects against accidental corruption, not against tampering: it detects every change within four adjacent bytes, and
misses one in 4e9 of all other changes; sha256 would take twice as long.
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
from jobs.system.progress import progressed

Array = npt.NDArray[Any]

_SPARE = 0.05
"""Fraction of the disk that is left free, because results, checkpoints and Ray may use the same disk."""
_CHECKSUM = np.dtype("<u4")
Chunks = Callable[[], Iterable[Array]]
"""Computes an array and yields its parts along the first axis, in order."""
_LOOK_SECONDS = 10.0
"""Interval at which a waiting process checks the progress of the writing process."""


class MachineCache(NamedTuple):
    """The cache files in one directory. Any of them can be deleted at any time; they are then recomputed."""

    directory: Path
    variable: str
    """The environment variable that sets the limit, in GB."""
    default_gb: float

    def array(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike, chunks: Chunks) -> "StoredArray":
        """Return the array with the given name; one process writes it while others that request it wait.

        A file gets its final name once it is complete. A damaged file is reported with a warning and rewritten, either
        now or when the damaged row is read. A file in use is not removed to make room.

        Args:
            name: identifies the contents; different contents have different names.
            chunks: called when there is no valid file, possibly also while rows are read.

        Raises:
            OSError: if the file can be neither read nor written on this machine.
            InvalidRequest: if the limit is not a number of 0 or more.
        """
        return StoredArray(self, name, shape, np.dtype(dtype), chunks)

    def opened(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], chunks: Chunks) -> "OpenFile":
        """Open the file of an array, after creating it if necessary; see ``array``."""
        path = self.directory / f"{name}.npy"
        found = _open(path, shape, dtype)
        if found is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            with self._lock(f"{hashlib.sha256(name.encode()).hexdigest()[:2]}.lock"):  # names share a few locks
                found = _open(path, shape, dtype)
                if found is None:
                    found = self._write(path, shape, dtype, chunks())
        return found

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """Acquire a lock; waiting counts as progress as long as another process keeps writing."""
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
        """Write chunk by chunk; a full disk is detected before the first chunk."""
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
        """Make room and allocate the whole file at once, so that other processes count its space as used."""
        with FileLock(self.directory / "room.lock"):
            self._make_room(size, part)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:  # macOS: other processes count the file's size, but its space is not reserved
                file.truncate(size)

    def _make_room(self, needed: int, part: Path) -> None:
        """Remove the least recently used files that are not in use until ``needed`` bytes fit the limit and the disk.

        Args:
            part: the file that needs the space.

        Raises:
            OSError: if they would not fit even then; nothing is removed.
        """
        disk = shutil.disk_usage(self.directory)
        limit, free = self._limit(), disk.free - int(_SPARE * disk.total)
        files = []
        for path in self.directory.iterdir():
            with suppress(FileNotFoundError):  # a partial file that has just been completed and renamed
                if path.suffix in (".npy", ".part") and path != part:
                    files.append((path, path.stat()))
        unused = sorted((file for file in files if not _in_use(file[0])), key=lambda file: file[1].st_atime_ns)
        used, removable = (sum(stat.st_size for _, stat in some) for some in (files, unused))
        if needed > limit:
            raise OSError(f"{needed:,} bytes are needed, more than the limit ${self.variable} ({limit / 1e9:g} GB)")
        if used - removable + needed > limit:
            raise OSError(
                f"{needed:,} bytes are needed, and {used - removable:,} bytes of the limit ${self.variable} are in use"
            )
        if needed > free + removable:
            raise OSError(
                f"{needed:,} bytes are needed, and {max(free, 0):,} are free besides the reserve of {_SPARE:.0%}"
            )
        for path, stat in unused:
            if used + needed <= limit and needed <= free:
                return
            used, free = used - stat.st_size, free + stat.st_size
            path.unlink(missing_ok=True)

    def _limit(self) -> float:
        """Return the limit in bytes, perhaps infinite; blank counts as unset, as for other variables."""
        text = os.environ.get(self.variable, "").strip()
        try:
            limit = float(text) if text else self.default_gb
        except ValueError:
            limit = math.nan
        if not limit >= 0:  # nan compares as false, and would let no file stay
            raise InvalidRequest(
                Code.WRONG_VALUE,
                f"expected a number of gigabytes, 0 or more, in ${self.variable}; got {text!r}. Fix: correct it, or "
                f"unset it for {self.default_gb:g}",
                key=f"${self.variable}",
            )
        return limit * 1e9


class OpenFile(NamedTuple):
    """A file that is locked while it is open."""

    handle: int
    start: int
    """Offset of the first row, in bytes."""
    checksums_N: npt.NDArray[np.uint32]


class StoredArray:
    """An array whose rows are read from a file on access and verified against their checksums.

    If a row is damaged or cannot be read, a warning names the file, and the file is rewritten.
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
        """Return a copy of the given rows.

        Raises:
            StorageFailure: if they are still damaged after the file was rewritten.
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
                f"{self._path} cannot be stored on this machine: it was damaged, and rewriting it failed or left it "
                f"damaged ({error}). Fix: check the machine's disk and memory, then resume",
                file=self._path,
            ) from error

    @property
    def _path(self) -> Path:
        return self._cache.directory / f"{self._name}.npy"

    def _take(self, opened: OpenFile) -> None:
        self._file = opened
        self._close = weakref.finalize(self, os.close, opened.handle)

    def _make_again(self) -> None:
        """Open the file that another process has written in the meantime, or write it."""
        with suppress(OSError):
            if os.path.samestat(self._path.stat(), os.fstat(self._file.handle)):
                self._path.unlink()
        self._close()
        self._take(self._cache.opened(self._name, self.shape, self.dtype, self._chunks))

    def _read(self, rows: slice | npt.NDArray[np.int64]) -> Array:
        """Read rows; raise ValueError with the number of the first damaged row."""
        numbers = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise IndexError(f"expected rows from 0 to {len(self) - 1}; got {numbers.min()} to {numbers.max()}")
        found = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        if not found.size:
            return found
        size, data, wanted = self._row_bytes, found.reshape(-1).view(np.uint8).data, numbers.tolist()
        starts = [at for at in range(len(wanted)) if at == 0 or wanted[at] != wanted[at - 1] + 1]
        for first, end in zip(starts, [*starts[1:], len(wanted)], strict=True):  # read adjacent rows together
            self._fill(data[first * size : end * size], wanted[first])
        expected = self._file.checksums_N[numbers].tolist()
        for at, number in enumerate(wanted):
            if zlib.crc32(data[at * size : (at + 1) * size]) != expected[at]:
                raise ValueError(f"the checksum of row {number} does not match")
        return found

    def _fill(self, target: memoryview, row: int) -> None:
        at = self._file.start + row * self._row_bytes
        while target:
            count = os.preadv(self._file.handle, [target], at)
            if count == 0:
                raise ValueError("the file is truncated")
            target, at = target[count:], at + count


def _open(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> OpenFile | None:
    """Open a file; return None if it does not exist or, with a warning, if it is damaged."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0(file)
            if header != (shape, False, dtype):
                raise ValueError(f"it contains shape {header[0]} of {header[2]}, not {shape} of {dtype}")
            start, size = file.tell(), os.fstat(file.fileno()).st_size
            if size != (whole := _whole(start, shape, dtype)):
                raise ValueError(
                    f"it has {size:,} bytes, not {whole:,}: it is truncated, or an older DeltaSweep wrote it"
                )
            file.seek(start + math.prod(shape) * dtype.itemsize)
            table = np.frombuffer(file.read(shape[0] * _CHECKSUM.itemsize), _CHECKSUM)
            if file.read() != _digest(shape, dtype, table):
                raise ValueError("its checksum table is damaged")
            with suppress(OSError):  # a shared, read-only directory
                os.utime(path, ns=(time.time_ns(), os.fstat(file.fileno()).st_mtime_ns))
            return OpenFile(os.dup(file.fileno()), start, table)
    except FileNotFoundError:
        return None
    except (ValueError, EOFError) as error:
        _say_damaged(path, error)
        return None


def _say_damaged(path: Path, error: Exception) -> None:
    warnings.warn(f"{path} is damaged ({error}) and will be rewritten", stacklevel=3)


def _whole(start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return the size of a file whose rows begin at ``start``: rows, their checksums, and a digest of the checksums."""
    return start + math.prod(shape) * dtype.itemsize + shape[0] * _CHECKSUM.itemsize + hashlib.sha256().digest_size


def _digest(shape: tuple[int, ...], dtype: np.dtype[Any], table: npt.NDArray[np.uint32]) -> bytes:
    return hashlib.sha256(f"{dtype.str} {shape} ".encode() + table.tobytes()).digest()


def _written(path: Path) -> int:
    """Return when a file was last written, in nanoseconds; 0 if it has just been removed."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _in_use(path: Path) -> bool:
    """Return whether a process is reading or writing the file, or has just renamed it into place."""
    try:
        with path.open("r+b") as file:  # NFS grants exclusive locks only on files open for writing
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False
