"""Arrays in files of this machine. Their limit, a full disk and a home without room: ``data/test_resized.py``, too."""

import errno
import fcntl
import mmap
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from jobs import machine_cache
from jobs.machine_cache import Array, MachineCache
from tests.support import present

CONTENT = np.arange(24, dtype=np.float32).reshape(6, 4)
VARIABLE = "TEST_CACHE_GB"
SPAWN = multiprocessing.get_context("spawn")


def array(folder: Path, name: str = "a", content: Array = CONTENT, *, verified: bool = True) -> Array:
    return MachineCache(folder, VARIABLE, 1.0).array(
        name, content.shape, content.dtype, lambda: np.array_split(content, 3), verified=verified
    )


def never() -> Iterator[Array]:
    pytest.fail("made again")


def memory_of(mapped: Array) -> object:
    """What holds the bytes of an array over a memoryview."""
    buffer = present(mapped.base).base
    assert isinstance(buffer, memoryview)
    return buffer.obj


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_what_was_written_is_mapped(tmp_path: Path) -> None:
    first = array(tmp_path)
    second = MachineCache(tmp_path, VARIABLE, 1.0).array("a", (6, 4), np.float32, never, verified=True)
    for found in (first, second):
        assert np.array_equal(found, CONTENT)
        assert isinstance(memory_of(found), mmap.mmap)
    assert names(tmp_path) == ["a.npy"]


def test_a_system_that_cannot_reserve_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS."""
    monkeypatch.delattr(os, "posix_fallocate")
    assert np.array_equal(array(tmp_path), CONTENT)


def test_where_only_who_may_write_locks_others_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As NFS emulates ``flock``."""
    flock = fcntl.flock

    def emulated(file: IO[bytes] | int, how: int) -> None:
        if how & fcntl.LOCK_EX and fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", emulated)
    for name in ("a", "b"):
        assert np.array_equal(array(tmp_path, name), CONTENT)


@pytest.mark.parametrize("place", [0, 130, -40, -1])
def test_a_damaged_file_is_named_and_made_again(place: int, tmp_path: Path) -> None:
    """In its header, its numbers, or its digest."""
    array(tmp_path)
    data = bytearray((tmp_path / "a.npy").read_bytes())
    data[place] ^= 1
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.warns(UserWarning, match=r"a\.npy is damaged \(.*\) and made again"):
        assert np.array_equal(array(tmp_path), CONTENT)
    assert np.array_equal(
        MachineCache(tmp_path, VARIABLE, 1.0).array("a", (6, 4), np.float32, never, verified=True), CONTENT
    )


def test_a_file_of_another_shape_or_type_is_made_again(tmp_path: Path) -> None:
    array(tmp_path)
    for other in (CONTENT[:5], CONTENT.astype(np.float64)):
        with pytest.warns(UserWarning, match=r"it holds .* of float"):
            assert np.array_equal(array(tmp_path, content=other), other)


def test_a_file_is_verified_once_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array(tmp_path)
    machine_cache._sound.clear()
    digests: list[int] = []
    original = machine_cache._DIGEST

    def digest(data: bytes) -> Any:
        digests.append(len(data))
        return original(data)

    monkeypatch.setattr(machine_cache, "_DIGEST", digest)
    for _ in range(3):
        array(tmp_path)
    assert len(digests) == 1
    array(tmp_path, verified=False)


def test_an_error_while_making_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[Array]:
        yield CONTENT[:2]
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        MachineCache(tmp_path, VARIABLE, 1.0).array("a", (6, 4), np.float32, broken, verified=True)
    assert names(tmp_path) == []


def test_what_is_mapped_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file not used for longest goes, but for those that somebody maps; what cannot fit then is refused."""
    monkeypatch.setenv(VARIABLE, "600e-9")
    used = array(tmp_path, "used")
    array(tmp_path, "unused")
    os.utime(tmp_path / "used.npy", (1, 1))
    array(tmp_path, "new")
    assert names(tmp_path) == ["new.npy", "used.npy"]
    more = np.zeros((100, 1), np.float32)
    with pytest.raises(OSError, match=r"400 bytes are needed and 256 of \$TEST_CACHE_GB are in use"):
        array(tmp_path, "more", more)
    assert names(tmp_path) == ["new.npy", "used.npy"]
    assert np.array_equal(used, CONTENT)
    del used
    array(tmp_path, "more", more)
    assert names(tmp_path) == ["more.npy"]


def test_a_mapping_outlives_its_file(tmp_path: Path) -> None:
    found = array(tmp_path)
    (tmp_path / "a.npy").unlink()
    assert np.array_equal(found, CONTENT)
    assert np.array_equal(array(tmp_path), CONTENT)


# --- several processes ---


def _chunks(folder: Path, wait: bool) -> Iterator[Array]:
    """Leaves a mark for each making; with ``wait`` it goes on when ``go`` is there."""
    (folder.parent / f"made-{os.getpid()}").touch()
    yield CONTENT[:2]
    while wait and not (folder.parent / "go").exists():
        time.sleep(0.01)
    yield CONTENT[2:]


def _make(folder: Path, name: str, answers: "multiprocessing.Queue[str]") -> None:
    try:
        cache = MachineCache(folder, VARIABLE, 1.0)
        found = cache.array(name, (6, 4), np.float32, lambda: _chunks(folder, wait=True), verified=True)
        answers.put("equal" if np.array_equal(found, CONTENT) else "different")
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
    monkeypatch.setenv(VARIABLE, "150e-9")
    (killed,), _ = started(folder, "a")
    wait_for(lambda: len(makers(folder)) == 1)
    with pytest.raises(OSError, match="are in use"):
        array(folder, "b")
    assert killed.pid is not None
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    array(folder, "b")
    assert names(folder) == ["b.npy"]
