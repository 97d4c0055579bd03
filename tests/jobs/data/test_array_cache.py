"""Arrays in files of this machine; ``test_resize.py`` also covers a size limit, a full disk, a home without space."""

import errno
import fcntl
import hashlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from jobs.data.array_cache import Array, MachineCache, StoredArray
from jobs.errors import Code, InvalidRequest, StorageFailure
from tests.jobs.support import damage
from tests.support import refused

CONTENT = np.arange(24, dtype=np.float32).reshape(6, 4)
VARIABLE = "TEST_CACHE_GB"
SPAWN = multiprocessing.get_context("spawn")


def stored(folder: Path, name: str = "a", content: Array = CONTENT) -> StoredArray:
    return MachineCache(folder, VARIABLE, 1.0).array(
        name, content.shape, content.dtype, lambda: np.array_split(content, 3)
    )


def array(folder: Path, name: str = "a", content: Array = CONTENT) -> Array:
    return stored(folder, name, content)[:]


def never() -> Iterator[Array]:
    pytest.fail("made again")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    first = stored(tmp_path)
    second = MachineCache(tmp_path, VARIABLE, 1.0).array("a", (6, 4), np.float32, never)
    for found in (first, second):
        assert (found.shape, found.dtype, len(found)) == ((6, 4), np.dtype(np.float32), 6)
        for rows in (slice(None), slice(2, 4), slice(5, 99), slice(0, 0), slice(1, 6, 2), slice(None, None, -1)):
            assert np.array_equal(found[rows], CONTENT[rows])
        for indices in ([], [3], [5, 0, 1, 2, 2, 4], [0, 1, 3, 4]):
            assert np.array_equal(found[np.array(indices, np.int64)], CONTENT[np.array(indices, np.int64)])
        for outside in ([6], [-1, 0]):
            with pytest.raises(IndexError, match="rows from 0 to 5"):
                found[np.array(outside)]
    assert names(tmp_path) == ["a.npy"]
    assert np.array_equal(np.load(tmp_path / "a.npy"), CONTENT), "a .npy file for others"


def test_a_system_that_cannot_reserve_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For example, macOS."""
    monkeypatch.delattr(os, "posix_fallocate")
    assert np.array_equal(array(tmp_path), CONTENT)


def test_where_only_who_may_write_locks_others_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulates NFS's emulation of ``flock``."""
    flock = fcntl.flock

    def emulated(file: IO[bytes] | int, how: int) -> None:
        if how & fcntl.LOCK_EX and fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", emulated)
    for name in ("a", "b"):
        assert np.array_equal(array(tmp_path, name), CONTENT)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def lengthen(path: Path) -> None:
    os.truncate(path, path.stat().st_size + 1)


def exchange(path: Path) -> None:
    """Exchange two rows, each of which is valid."""
    other = CONTENT.copy()
    other[[1, 4]] = other[[4, 1]]
    with path.open("r+b") as file:
        file.seek(128)
        file.write(other.tobytes())


def blank(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(128)
        file.write(bytes(CONTENT.nbytes))


DAMAGES: dict[str, Callable[[Path], None]] = {
    **{f"byte {place}": partial(damage, place=place) for place in (0, 30, 128, 150, 223, 224, 247, -32, -1)},
    **{f"bit {bit}": partial(damage, place=160, bit=bit) for bit in (1, 255)},
    **{function.__name__: function for function in (cut, lengthen, exchange, blank)},
    "emptied": lambda path: os.truncate(path, 0),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_is_named_and_made_again(kind: str, tmp_path: Path) -> None:
    """Damage in the header, rows, checksums or their digest is found when the file is opened or the row is read."""
    array(tmp_path)
    DAMAGES[kind](tmp_path / "a.npy")
    with pytest.warns(UserWarning, match=r"a\.npy is damaged \(.*\) and will be rewritten"):
        assert np.array_equal(array(tmp_path), CONTENT)
    assert np.array_equal(MachineCache(tmp_path, VARIABLE, 1.0).array("a", (6, 4), np.float32, never)[:], CONTENT)
    assert names(tmp_path) == ["a.npy"]


IN_ROWS = [kind for kind in DAMAGES if kind in ("bit 1", "bit 255", "exchange", "blank", "emptied", "byte 128")]


@pytest.mark.parametrize("readers", [1, 2])
@pytest.mark.parametrize("kind", IN_ROWS)
def test_a_file_that_is_damaged_while_it_is_in_use_gives_what_was_written(
    kind: str, readers: int, tmp_path: Path
) -> None:
    """Even if the process has read the file before, because no file counts as valid for a process's lifetime."""
    found = [stored(tmp_path) for _ in range(readers)]
    for one in found:
        assert np.array_equal(one[:], CONTENT)
    DAMAGES[kind](tmp_path / "a.npy")
    with pytest.warns(UserWarning, match=r"a\.npy is damaged \(.*\) and will be rewritten") as warned:
        read = [[one[np.array([row])] for row in range(6)] for one in found]
    assert np.array_equal(np.concatenate([row for rows in read for row in rows]), np.concatenate([CONTENT] * readers))
    assert len(warned) == readers
    assert np.array_equal(MachineCache(tmp_path, VARIABLE, 1.0).array("a", (6, 4), np.float32, never)[:], CONTENT)


def test_rows_that_cannot_be_read_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For example, a bad sector, or a network file system that lost the file."""
    found, preadv = stored(tmp_path), os.preadv
    for code in (errno.EIO, errno.ESTALE):
        failures = iter([OSError(code, os.strerror(code))])

        def fails(handle: int, buffers: list[memoryview], at: int, failures: Iterator[OSError] = failures) -> int:
            for error in failures:
                raise error
            return preadv(handle, buffers, at)

        monkeypatch.setattr(os, "preadv", fails)
        with pytest.warns(UserWarning, match="is damaged"):
            assert np.array_equal(found[:], CONTENT)


def test_rows_that_no_making_again_keeps_are_a_failure_of_the_machine(tmp_path: Path) -> None:
    chunks = [CONTENT]
    found = MachineCache(tmp_path, VARIABLE, 1.0).array("a", (6, 4), np.float32, lambda: chunks)
    original = found._cache.opened

    class Broken(MachineCache):
        def opened(self, *of: Any) -> Any:
            made = original(*of)
            blank(self.directory / "a.npy")
            return made

    found._cache = Broken(tmp_path, VARIABLE, 1.0)
    blank(tmp_path / "a.npy")
    file = tmp_path / "a.npy"
    with pytest.warns(UserWarning, match="is damaged"), refused(Code.STORAGE, file, kind=StorageFailure, file=file):
        found[1:2]


def test_a_file_of_an_older_format_is_made_again(tmp_path: Path) -> None:
    """Until 0.2.0 the array was followed by its sha256."""
    array(tmp_path)
    data = (tmp_path / "a.npy").read_bytes()[:224]
    (tmp_path / "a.npy").write_bytes(data + hashlib.sha256(CONTENT.tobytes()).digest())
    with pytest.warns(UserWarning, match=r"a\.npy is damaged \(.* an older DeltaSweep wrote it\)"):
        assert np.array_equal(array(tmp_path), CONTENT)


def test_a_file_of_another_shape_or_type_is_made_again(tmp_path: Path) -> None:
    array(tmp_path)
    for other in (CONTENT[:5], CONTENT.astype(np.float64)):
        with pytest.warns(UserWarning, match=r"it contains shape .* of float"):
            assert np.array_equal(array(tmp_path, content=other), other)


def test_an_error_while_making_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[Array]:
        yield CONTENT[:2]
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        MachineCache(tmp_path, VARIABLE, 1.0).array("a", (6, 4), np.float32, broken)
    assert names(tmp_path) == []


def test_what_is_in_use_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently used file is removed unless it is being read; data that still does not fit is refused."""
    monkeypatch.setenv(VARIABLE, "700e-9")
    used = stored(tmp_path, "used")
    array(tmp_path, "unused")
    os.utime(tmp_path / "used.npy", (1, 1))
    array(tmp_path, "new")
    assert names(tmp_path) == ["new.npy", "used.npy"]
    more = np.zeros((1, 100), np.float32)
    with pytest.raises(OSError, match=r"564 bytes are needed, and 280 bytes of the limit \$TEST_CACHE_GB are in use"):
        array(tmp_path, "more", more)
    assert names(tmp_path) == ["new.npy", "used.npy"]
    assert np.array_equal(used[:], CONTENT)
    del used
    array(tmp_path, "more", more)
    assert names(tmp_path) == ["more.npy"]


@pytest.mark.parametrize("limit", ["much", "nan", "-1", "-inf", "1 GB"])
def test_a_limit_that_is_no_size_removes_nothing(limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array(tmp_path, "unused")
    monkeypatch.setenv(VARIABLE, limit)
    with refused(Code.WRONG_VALUE, f"${VARIABLE}", repr(limit), kind=InvalidRequest, key=f"${VARIABLE}"):
        array(tmp_path, "new")
    assert names(tmp_path) == ["unused.npy"]


@pytest.mark.parametrize("limit", ["", " ", "inf", " 1 ", "1e-6"])
def test_limits(limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blank one counts as unset."""
    monkeypatch.setenv(VARIABLE, limit)
    array(tmp_path, "a")
    array(tmp_path, "b")
    assert names(tmp_path) == ["a.npy", "b.npy"]


def test_a_limit_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0")
    with pytest.raises(OSError, match=r"280 bytes are needed, more than the limit \$TEST_CACHE_GB \(0 GB\)"):
        array(tmp_path)


def test_who_reads_a_file_may_go_on_when_it_is_removed(tmp_path: Path) -> None:
    found = stored(tmp_path)
    (tmp_path / "a.npy").unlink()
    assert np.array_equal(found[:], CONTENT)
    assert np.array_equal(array(tmp_path), CONTENT)


# --- several processes ---


def _chunks(folder: Path, wait: bool) -> Iterator[Array]:
    """Mark each time the content is computed; with ``wait``, continue only once ``go`` exists."""
    (folder.parent / f"made-{os.getpid()}").touch()
    yield CONTENT[:2]
    while wait and not (folder.parent / "go").exists():
        time.sleep(0.01)
    yield CONTENT[2:]


def _make(folder: Path, name: str, answers: "multiprocessing.Queue[str]") -> None:
    try:
        cache = MachineCache(folder, VARIABLE, 1.0)
        found = cache.array(name, (6, 4), np.float32, lambda: _chunks(folder, wait=True))
        answers.put("equal" if np.array_equal(found[:], CONTENT) else "different")
    except OSError as error:
        answers.put(str(error))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def started(folder: Path, *processes_names: str) -> tuple[list[SpawnProcess], "multiprocessing.Queue[str]"]:
    answers: multiprocessing.Queue[str] = SPAWN.Queue()
    processes = [SPAWN.Process(target=_make, args=(folder, name, answers)) for name in processes_names]
    for process in processes:
        process.start()
    return processes, answers


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def makers(folder: Path) -> list[Path]:
    return sorted(folder.parent.glob("made-*"))


def test_one_process_makes_and_the_others_wait(folder: Path) -> None:
    processes, answers = started(folder, "a", "a", "a")
    wait_for(lambda: len(makers(folder)) == 1)
    assert names(folder) == ["a.part"], "half of it is not to be seen"
    (folder.parent / "go").touch()
    assert [answers.get(timeout=120) for _ in processes] == ["equal"] * 3
    for process in processes:
        process.join()
    assert len(makers(folder)) == 1
    assert names(folder) == ["a.npy"]


def test_after_a_process_that_was_killed_another_makes_it(folder: Path) -> None:
    (killed,), _ = started(folder, "a")
    wait_for(lambda: len(makers(folder)) == 1)
    assert killed.pid is not None
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    assert names(folder) == ["a.part"]
    assert np.array_equal(array(folder), CONTENT)
    assert names(folder) == ["a.npy"]


def test_what_is_being_made_counts_and_what_was_left_half_made_goes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "400e-9")
    (killed,), _ = started(folder, "a")
    wait_for(lambda: len(makers(folder)) == 1)
    with pytest.raises(OSError, match="are in use"):
        array(folder, "b")
    assert killed.pid is not None
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    array(folder, "b")
    assert names(folder) == ["b.npy"]
