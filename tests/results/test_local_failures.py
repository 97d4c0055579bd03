"""A directory that is full, read-only, or on a file system without hard links."""

import contextlib
import errno
import io
import os
import stat
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import pytest

from jobs.errors import Code, DamagedFile, InvalidRequest, StorageFailure
from jobs.results import Committed, LocalStore, Problem, begin, commit, compact, done, read_trials
from jobs.results.layout import trial_key
from jobs.verification.verify import verify
from tests.file_systems import Disk
from tests.machine import bound_by_permissions
from tests.results.support import KIND, held, once, rows, trial
from tests.support import refused


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "root")
    commit(store, KIND, rows(1))
    return store


def files(store: LocalStore) -> list[str]:
    """Return the keys of all files but locks, which are empty and stay."""
    found = (path.relative_to(store.directory).as_posix() for path in store.directory.rglob("*") if path.is_file())
    return sorted(key for key in found if not key.startswith("_tmp/locks/"))


def half_written(number: int) -> Callable[..., IO[bytes]]:
    """Return a replacement of ``os.fdopen`` whose files store only half of each write and then fail."""

    def open_file(handle: int, mode: str = "r") -> IO[bytes]:
        file: IO[bytes] = io.open(handle, mode)  # noqa: SIM115, UP020  # os.fdopen itself is replaced

        def write(data: bytes) -> int:
            os.write(handle, data[: len(data) // 2])
            raise OSError(number, os.strerror(number))

        if mode == "wb":
            return cast("IO[bytes]", _File(file, write))
        return file

    return open_file


class _File:
    def __init__(self, file: IO[bytes], write: Callable[[bytes], int]) -> None:
        self._file, self.write = file, write

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@pytest.mark.parametrize("failing", ["fsync", "write"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_write_that_fails_leaves_nothing(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, failing: str, number: int
) -> None:
    before = files(store)

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        if failing == "fsync":
            patch.setattr("jobs.results.local_store.os.fsync", fail)
        else:
            patch.setattr("jobs.results.local_store.os.fdopen", half_written(number))
        said = os.strerror(number)
        with refused(Code.STORAGE, said, kind=StorageFailure, file=store.directory / trial_key(KIND, trial(2))):
            commit(store, KIND, rows(2))
        file = store.directory / "checkpoints/x"
        with refused(Code.STORAGE, said, file, kind=StorageFailure, file=file):
            store.replace("checkpoints/x", b"state")
        with refused(Code.STORAGE, said, store.directory / "compact", kind=StorageFailure):
            compact(store, KIND)
    assert files(store) == before
    assert commit(store, KIND, rows(2)) is Committed.NEW
    assert held(read_trials(store, KIND)) == once({1, 2})


def test_a_disk_that_is_really_full(disk: Disk) -> None:
    store = LocalStore(disk.folder / "root")
    committed: set[int] = set()

    def commit_next(number: int) -> None:
        commit(store, KIND, rows(number))
        committed.add(number)

    with refused(Code.STORAGE, os.strerror(errno.ENOSPC), store.uri, kind=StorageFailure):
        deque(map(commit_next, range(10_000)), maxlen=0)
    assert held(read_trials(store, KIND)) == once(committed)
    assert store.stale(timedelta(seconds=-60)) == []


def test_a_file_system_without_hard_links_is_refused(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    before = files(store)
    monkeypatch.setattr("jobs.results.local_store.os.link", fail)
    values = (store.uri, os.strerror(errno.EPERM), "hard links")
    with refused(Code.WRONG_PLACE, *values, kind=StorageFailure, file=store.uri):
        commit(store, KIND, rows(2))
    with refused(Code.ROOT_NOT_WRITABLE, *values, "--results", kind=InvalidRequest, file=store.uri):
        begin(store)
    assert files(store) == before


def test_a_link_whose_reply_was_lost_is_ones_own(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def link_and_repeat(source: str, target: str, **folders: Any) -> None:
        link(source, target, **folders)
        link(source, target, **folders)  # like NFS, whose server then finds the link that it has just created

    monkeypatch.setattr("jobs.results.local_store.os.link", link_and_repeat)
    assert commit(store, KIND, rows(2)) is Committed.NEW


@bound_by_permissions
def test_a_root_without_permissions_is_named(store: LocalStore) -> None:
    folders = [store.directory, *(path for path in store.directory.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o500)
    try:
        with refused(Code.STORAGE, store.uri, os.strerror(errno.EACCES), kind=StorageFailure):
            commit(store, KIND, rows(2))
        with refused(Code.ROOT_NOT_WRITABLE, store.uri, "--results", kind=InvalidRequest, file=store.uri):
            begin(store)
        assert held(read_trials(store, KIND)) == once({1})
    finally:
        for folder in folders:
            folder.chmod(0o700)


def test_a_root_that_is_mounted_read_only_is_named(disk: Disk) -> None:
    store = LocalStore(disk.folder / "root")
    commit(store, KIND, rows(1))
    disk.make_read_only()
    with refused(Code.STORAGE, store.uri, "Read-only file system", kind=StorageFailure):
        commit(store, KIND, rows(2))
    with refused(Code.ROOT_NOT_WRITABLE, store.uri, "--results", kind=InvalidRequest, file=store.uri):
        begin(store)
    assert held(read_trials(store, KIND)) == once({1})


def refuse_new_files(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Make the system refuse to create files."""
    opened = os.open

    def refuse(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_CREAT:
            raise OSError(number, os.strerror(number))
        return opened(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr("jobs.results.local_store.os.open", refuse)


def test_a_refusing_root_is_named(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_new_files(monkeypatch, errno.EROFS)
    file = store.directory / "a"
    with refused(Code.STORAGE, file, "Read-only file system", kind=StorageFailure, file=file):
        store.create("a", b"")
    with refused(Code.ROOT_NOT_WRITABLE, store.uri, "--results", kind=InvalidRequest, file=store.uri):
        begin(store)
    assert done(store, KIND)


FAILS = [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN]
REFUSES = [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG]


@pytest.mark.parametrize("number", [*FAILS, *REFUSES])
def test_a_root_that_cannot_be_begun(store: LocalStore, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """If access is refused, the request is wrong; if the storage fails, the same request may succeed later."""
    refuse_new_files(monkeypatch, number)
    code, kind = (Code.STORAGE, StorageFailure) if number in FAILS else (Code.ROOT_NOT_WRITABLE, InvalidRequest)
    with refused(code, store.uri, os.strerror(number), kind=kind):
        begin(store)


def test_a_root_of_too_long_a_name(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / ("x" * 300))
    with refused(Code.ROOT_NOT_WRITABLE, store.uri, "--results", kind=InvalidRequest, file=store.uri):
        begin(store)


FOLDERS = [
    "trials",
    f"trials/{KIND}",
    "checkpoints",
    "conflicts",
    "datasets",
    "failures",
    "launches",
    "logs",
    "studies",
]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path, folder: str) -> None:
    store = LocalStore(tmp_path / "root")
    store.create(folder, b"")
    store.create("sources/x.json", b"[")
    file = f"{store.uri}/{folder}"
    for prefix in (folder, f"{folder}/below"):
        with refused(Code.WRONG_PLACE, file, kind=DamagedFile, file=file):
            list(store.keys(prefix))
    with refused(Code.WRONG_PLACE, file, kind=DamagedFile, file=file):
        store.read(f"{folder}/x")
    with refused(Code.WRONG_PLACE, file, kind=StorageFailure, file=file):
        store.create(f"{folder}/x/y", b"")
    found = sorted((finding.key, finding.problem) for finding in verify(store))
    assert found == sorted([(folder, Problem.FOREIGN), ("sources/x.json", Problem.UNREADABLE_RECORD)])
    with refused(Code.WRONG_PLACE, kind=DamagedFile) if folder.startswith("trials") else contextlib.nullcontext():
        done(store, KIND)


def test_a_file_in_place_of_the_temporary_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "_tmp").write_bytes(b"")
    with refused(Code.ROOT_NOT_WRITABLE, tmp_path / "_tmp", kind=InvalidRequest, file=tmp_path):
        begin(LocalStore(tmp_path))


def test_a_folder_in_place_of_a_file_is_named(store: LocalStore) -> None:
    (store.directory / "sources" / "x.json").mkdir(parents=True)
    file = store.directory / "sources" / "x.json"
    with refused(Code.WRONG_PLACE, file, kind=DamagedFile, file=file):
        store.read("sources/x.json")
    with refused(Code.WRONG_PLACE, file, kind=StorageFailure, file=file):
        store.replace("sources/x.json", b"")


def test_old_temporary_files_are_removed_by_compact(store: LocalStore) -> None:
    names = {"0" * 32: True, f"write-test-{'a' * 32}": True, "notes.txt": False, "0" * 31: False}
    for name in names:
        path = store.directory / "_tmp" / name
        path.write_bytes(b"half")
        long_ago = path.stat().st_mtime - 2 * 24 * 3600
        os.utime(path, (long_ago, long_ago))
    young = store.directory / "_tmp" / ("1" * 32)
    young.write_bytes(b"half")
    assert held(read_trials(store, KIND)) == once({1})
    compact(store, KIND)
    left = {path.name for path in young.parent.iterdir() if path.is_file()}
    assert left == {young.name, *(name for name, own in names.items() if not own)}


def synced_and_named(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the ordered list of syncs of files and folders and of naming operations."""
    happened: list[str] = []
    real = {name: getattr(os, name) for name in ("fsync", "link", "replace")}

    def note_fsync(handle: int) -> None:
        happened.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        real["fsync"](handle)

    def note(name: str, *paths: str, **folders: Any) -> None:
        happened.append("name")
        real[name](*paths, **folders)

    monkeypatch.setattr("jobs.results.local_store.os.fsync", note_fsync)
    for name in ("link", "replace"):
        monkeypatch.setattr(f"jobs.results.local_store.os.{name}", partial(note, name))
    return happened


def test_a_result_is_durable_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First the bytes, then the name, then its folder: after a power failure the whole result exists, or none."""
    store, happened = LocalStore(tmp_path / "root"), synced_and_named(monkeypatch)
    assert commit(store, KIND, rows(1)) is Committed.NEW
    assert happened.index("file") < happened.index("name")
    assert happened[-2:] == ["name", "folder"]


@pytest.mark.parametrize("durable", [True, False])
def test_what_replaces_is_durable_before_it_has_the_name(
    durable: bool, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds for an index or a record; a checkpoint only saves time, so it is not waited for."""
    store.replace("launches/x.json", b"1")
    happened = synced_and_named(monkeypatch)
    store.replace("launches/x.json", b"2", durable=durable)
    assert happened == (["file", "name", "folder"] if durable else ["name"])


def test_what_another_created_is_durable_too(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result found in place counts as done, so it must not disappear after a power failure."""
    happened = synced_and_named(monkeypatch)
    assert commit(store, KIND, rows(1)) is Committed.ALREADY_THERE
    assert happened[-2:] == ["name", "folder"]
