"""Foreign files in a root, such as links, pipes, hidden files and unknown names, are neither followed nor removed.

Beside each root is a folder that must stay unchanged: the target of the links.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import analysis
from jobs.errors import Code, DamagedFile, DeltaSweepError, StorageFailure
from jobs.results import (
    LocalStore,
    Problem,
    Store,
    begin,
    commit,
    compact,
    done,
    merge,
    open_store,
    read_failures,
    read_launches,
    read_trials,
    recorded_studies,
    with_weights,
)
from jobs.results.layout import CURRENT, checkpoint_key, compact_key, generation_name, trial_key
from jobs.results.root_record import KEY
from jobs.verification.verify import verify
from tests.file_systems import LINKS
from tests.machine import not_proved
from tests.results.support import KIND, held, once, rows, trial
from tests.support import refused

OLD = generation_name(datetime(2026, 1, 2, tzinfo=UTC), "0123abcd")
RESULT = trial_key(KIND, trial(1))
FILES = {
    "a result": RESULT,
    "the index": CURRENT,
    "an old generation": compact_key(OLD, KIND),
    "a checkpoint": checkpoint_key(trial(3), 1, 0, "0" * 16),
    "weights": f"weights/{trial(3)}.safetensors",
    "a study": "studies/x/y.yaml",
    "a launch": "launches/x.json",
    "a failure": f"failures/{trial(3)}/1.json",
    "a log": f"logs/{trial(3)}/1.log",
    "a pin": "sources/x.json",
    "the root's record": KEY,
}
FOLDERS = {
    "a kind": f"trials/{KIND}",
    "a 256th of a kind": RESULT.rpartition("/")[0],
    "the index": "compact",
    "a generation": f"compact/{OLD}",
    "temporary files": "_tmp",
    "locks": "_tmp/locks",
    "all checkpoints": "checkpoints",
    "checkpoints of a trial": f"checkpoints/{trial(3)}",
    "weights": "weights",
    "studies": "studies",
    "a study": "studies/x",
    "launches": "launches",
    "failures": "failures",
    "failures of a trial": f"failures/{trial(3)}",
    "logs": "logs",
    "pins": "sources",
    "conflicts": "conflicts",
}


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """Two results, and a file of each other type."""
    store = LocalStore(tmp_path / "root")
    begin(store)
    for number in (1, 2):
        commit(store, KIND, rows(number))
    for key in FILES.values():
        store.create(key, b"own")
    return store


@pytest.fixture
def elsewhere(store: LocalStore) -> Iterator[Path]:
    """A copy of the whole root's layout outside the root, which must stay unchanged."""
    folder = store.directory.with_name("elsewhere")
    for key in [*FILES.values(), f"_tmp/{'0' * 32}", f"_tmp/locks/{CURRENT.replace('/', '-')}.lock"]:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"elsewhere")
        os.utime(path, (0, 0))
    before = content(folder)
    yield folder
    assert content(folder) == before


def content(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def remove(path: Path) -> None:
    if path.is_dir():
        for inner in path.iterdir():
            remove(inner)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def everything(store: Store) -> Iterator[Callable[[], object]]:
    """Yield every operation that is ever done to a root."""
    for key in FILES.values():
        yield lambda key=key: store.read(key)  # type: ignore[misc]
        yield lambda key=key: store.replace(key, b"new")  # type: ignore[misc]
        yield lambda key=key: store.create(key, b"new")  # type: ignore[misc]
        yield lambda key=key: store.swap(key, b"own", b"new")  # type: ignore[misc]
        yield lambda key=key: store.delete(key)  # type: ignore[misc]
        yield lambda key=key: list(store.keys(key.split("/")[0]))  # type: ignore[misc]
    for number in (1, 2, 9):
        yield lambda number=number: commit(store, KIND, rows(number, test_accuracy=1.0))  # type: ignore[misc]
    yield lambda: compact(store, KIND)
    yield lambda: begin(store)
    for ask in (read_failures, read_launches, recorded_studies, with_weights):
        yield lambda ask=ask: ask(store)  # type: ignore[misc]
    yield lambda: [store.delete(key) for key in store.stale(timedelta(0))]


@pytest.mark.parametrize("folder", FOLDERS.values(), ids=FOLDERS)
def test_a_link_in_place_of_a_folder_is_never_followed(folder: str, store: LocalStore, elsewhere: Path) -> None:
    remove(store.directory / folder)
    (store.directory / folder).symlink_to(elsewhere / folder)
    refusals = 0
    for act in everything(store):
        try:
            act()
        except (DeltaSweepError, FileNotFoundError):
            refusals += 1
    assert refusals > 0
    assert (store.directory / folder).is_symlink()


def test_what_is_no_file_is_named_and_stays(irregular: Callable[[Path], None], store: LocalStore) -> None:
    for file in FILES.values():
        path = store.directory / file
        remove(path)
        irregular(path)
        with refused(Code.WRONG_PLACE, path, kind=DamagedFile, file=path):
            store.read(file)
        acts: list[Callable[[], object]] = [
            partial(store.replace, file, b"new"),
            partial(store.swap, file, None, b"new"),
            partial(store.delete, file),
        ]
        for act in acts:
            with refused(Code.WRONG_PLACE, path, kind=StorageFailure, file=path):
                act()
        assert store.create(file, b"new") is False
        assert path.is_symlink() or not path.is_file()


@pytest.mark.parametrize("sort", LINKS.values(), ids=LINKS)
@pytest.mark.parametrize("folder", [RESULT.rpartition("/")[0], f"trials/{KIND}"])
def test_results_behind_a_link_are_not_pending(sort: Callable[[Path], None], folder: str, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "root")
    commit(store, KIND, rows(1))
    path = store.directory / folder
    path.rename(store.directory.with_name("behind"))
    sort(path)
    for ask in (lambda: done(store, KIND), lambda: read_trials(store, KIND)):
        with refused(Code.WRONG_PLACE, path, "link", kind=DamagedFile, file=path):
            ask()
    with refused(Code.WRONG_PLACE, path, kind=DeltaSweepError, file=path):
        commit(store, KIND, rows(1))
    with refused(Code.WRONG_PLACE, path, kind=DamagedFile, file=path):
        analysis.query(store.directory, "SELECT count(*) FROM evaluations")


def test_verify_names_what_is_no_file_and_goes_on(irregular: Callable[[Path], None], store: LocalStore) -> None:
    keys = [RESULT, f"trials/{KIND}/zz", "studies/x/z.yaml", "compact/z", "_tmp/z", "weights/z", "launches"]
    for key in keys:
        remove(store.directory / key)
        irregular(store.directory / key)
    torn = trial_key(KIND, trial(2))
    store.replace(torn, b"torn")
    found = {finding.key: finding.problem for finding in verify(store)}
    assert found[torn] is Problem.TORN
    for key in keys:
        path = store.directory / key
        assert found.get(key) is (None if path.is_dir() and not path.is_symlink() else Problem.FOREIGN)


def test_the_root_and_its_trials_may_be_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "trials").mkdir()
    (tmp_path / "real" / "trials").symlink_to(tmp_path / "trials")
    (tmp_path / "root").symlink_to(tmp_path / "real")
    store = open_store(tmp_path / "root")
    begin(store)
    commit(store, KIND, rows(1))
    compact(store, KIND)
    assert (tmp_path / RESULT).is_file()
    assert held(read_trials(store, KIND)) == once({1})
    assert verify(store) == []
    assert list(store.keys("")).count(RESULT) == 1


@pytest.mark.parametrize("to", ["nothing", "trials", "file"])
def test_trials_that_lead_nowhere_are_not_none(to: str, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "file").touch()
    (tmp_path / "root" / "trials").symlink_to(to)
    store = open_store(tmp_path / "root")
    file = tmp_path / "root" / "trials"
    with refused(Code.WRONG_PLACE, file, "link", kind=DamagedFile, file=file):
        done(store, KIND)
    with refused(Code.WRONG_PLACE, file, "link", kind=StorageFailure, file=file):
        commit(store, KIND, rows(1))


@pytest.mark.parametrize("key", ["../x", "trials/../../x", "a//b", "/etc/passwd", "./a", "a/\0", ""])
def test_keys_lead_nowhere_but_down(key: str, store: LocalStore) -> None:
    for act in (store.read, store.delete, lambda key: store.create(key, b""), lambda key: store.replace(key, b"")):
        with refused(Code.WRONG_PLACE, kind=DamagedFile):
            act(key)


@pytest.mark.parametrize("file", ["../../elsewhere/x.parquet", "/etc/passwd", RESULT, "compact/x/finetune.parquet"])
def test_an_index_names_only_what_a_compaction_writes(file: str, store: LocalStore) -> None:
    entry = f'{{"file": "{file}", "sha256": "{"0" * 64}", "rows": 1, "trials": 1}}'
    store.replace(CURRENT, f'{{"version": 1, "kinds": {{"{KIND}": {entry}}}}}'.encode())
    store.replace(RESULT, b"")
    store.delete(RESULT)
    with pytest.warns(UserWarning, match="no compaction writes"):
        assert held(read_trials(store, KIND)) == once({2})
    assert compact(store, KIND).written


HIDDEN = [".DS_Store", ".nfs000000000012", "._x.parquet", ".Trash-1000/files/x.json", ".snapshot/daily/trials/x"]


def test_hidden_files_are_nobodys(any_store: Store) -> None:
    commit(any_store, KIND, rows(1))
    compact(any_store, KIND)
    begin(any_store)
    hidden = {f"{folder}{name}" for folder in ("", *(f"{folder}/" for folder in FOLDERS.values())) for name in HIDDEN}
    for key in hidden:
        any_store.replace(key, b"another's", durable=False)
    assert hidden.isdisjoint(any_store.keys(""))
    for folder in FOLDERS.values():
        assert hidden.isdisjoint(any_store.keys(folder))
    assert held(read_trials(any_store, KIND)) == once({1})
    assert (read_failures(any_store), read_launches(any_store), recorded_studies(any_store)) == ([], [], [])
    compact(any_store, KIND)
    assert verify(any_store) == []
    assert {any_store.read(key) for key in hidden} == {b"another's"}


OTHERS_NAMES = [
    f"compact/{OLD}-copy/{KIND}.parquet",
    f"compact/{OLD}/{KIND}.parquet.bak",
    f"compact/{OLD}/more/{KIND}.parquet",
    f"compact/{OLD[:-1]}g/{KIND}.parquet",
    "compact/20200101T000000Z-notes/notes.txt",
    "compact/20209999T000000Z-0123abcd/finetune.parquet",
    "_tmp/notes.txt",
    f"_tmp/{'A' * 32}",
    f"_tmp/folder/{'0' * 32}",
    f"checkpoints/{trial(1)}/notes.txt",
    f"checkpoints/{trial(1)}/e000001-b000000-{'0' * 16}.safetensors.bak",
    f"checkpoints/{trial(1)}/more/e000001-b000000-{'0' * 16}.safetensors",
]


@pytest.mark.parametrize("key", OTHERS_NAMES)
def test_what_has_a_name_that_we_do_not_give_stays_and_is_named(key: str, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "root")
    commit(store, KIND, rows(1))
    path = store.directory / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"another's")
    os.utime(path, (0, 0))
    own = compact_key(OLD, KIND)
    store.create(own, b"")
    compact(store, KIND)
    assert own not in set(store.keys("compact"))
    assert path.read_bytes() == b"another's"
    assert {finding.key: finding.problem for finding in verify(store)} == {key: Problem.FOREIGN}


def test_folders_that_a_deletion_leaves_empty_go(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "root")
    for name in ("a/b/c", "a/d"):
        store.create(name, b"")
    store.delete("a/b/c")
    assert not (store.directory / "a" / "b").exists()
    store.delete("a/d")
    assert (store.directory / "a").is_dir(), "that of the sort stays"
    assert store.create("a/b/c", b"again")


def test_a_folder_that_goes_as_a_file_comes_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process removes the folder while it is empty, between its creation and that of the file in it."""
    store, removed = LocalStore(tmp_path / "root"), list[int]()
    link, rename = os.link, os.replace

    def first(name: str) -> None:
        if not removed:
            removed.append(1)
            (store.directory / "checkpoints" / name).rmdir()

    def link_later(*arguments: Any, **folders: Any) -> None:
        first("one")
        link(*arguments, **folders)

    def rename_later(*arguments: Any, **folders: Any) -> None:
        first("two")
        rename(*arguments, **folders)

    monkeypatch.setattr("jobs.results.local_store.os.link", link_later)
    assert store.create("checkpoints/one/x", b"1")
    assert removed == [1]
    removed.clear()
    monkeypatch.setattr("jobs.results.local_store.os.replace", rename_later)
    store.replace("checkpoints/two/x", b"2")
    assert removed == [1]
    assert [store.read(f"checkpoints/{name}/x") for name in ("one", "two")] == [b"1", b"2"]


def test_a_name_that_is_no_text_is_named_in_text(store: LocalStore) -> None:
    store.delete(CURRENT)
    (store.directory / RESULT).with_name(os.fsdecode(b"x\xff\xfe.parquet")).touch()
    with refused(Code.WRONG_PLACE, r"x\xff\xfe.parquet", "UTF-8", kind=DamagedFile):
        read_trials(store, KIND)
    (found,) = [finding for finding in verify(store) if "xff" in finding.key]
    assert found.problem is Problem.FOREIGN
    assert f"{found.key} {found.advice}".encode()


def test_names_in_any_script_are_names(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "root")
    store.create("logs/ä/日本.log", b"")
    assert list(store.keys("logs")) == ["logs/ä/日本.log"]


@pytest.mark.parametrize("folder", ["sources", "studies", "conflicts", "launches", "weights", "logs", "checkpoints"])
def test_nothing_is_merged_from_a_root_with_links(
    folder: str, irregular: Callable[[Path], None], tmp_path: Path
) -> None:
    source = LocalStore(tmp_path / "source")
    begin(source)
    commit(source, KIND, rows(1))
    path = source.directory / folder / "x"
    path.parent.mkdir(exist_ok=True)
    irregular(path)
    if path.is_dir() and not path.is_symlink():
        return  # an empty folder
    with refused(Code.WRONG_PLACE, path, kind=DamagedFile, file=path):
        merge([source], open_store(tmp_path / "target"))
    assert not (tmp_path / "target").exists()


def test_more_than_is_expected_is_not_read(any_store: Store) -> None:
    any_store.create("a", bytes(1000))
    assert len(any_store.read_within("a", 1000)) == 1000
    with refused(Code.WRONG_PLACE, f"{any_store.uri}/a", "1,000", "999", kind=DamagedFile, file=f"{any_store.uri}/a"):
        any_store.read_within("a", 999)


def test_a_file_without_end_is_not_read(store: LocalStore) -> None:
    os.truncate(store.directory / RESULT, 1 << 40)
    with refused(Code.WRONG_PLACE, store.directory / RESULT, "1,099,511,627,776", kind=DamagedFile):
        store.read_within(RESULT, 1 << 20)


def test_trials_on_another_file_system_are_refused_before_anything_runs(tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        not_proved("results on another file system than their root", "a /dev/shm that can be written")
    with tempfile.TemporaryDirectory(dir=memory) as elsewhere:
        (tmp_path / "root").mkdir()
        (tmp_path / "root" / "trials").symlink_to(elsewhere)
        store = open_store(tmp_path / "root")
        file = f"{store.uri}/trials"
        for act in (lambda: begin(store), lambda: commit(store, KIND, rows(1))):
            with refused(Code.WRONG_PLACE, "link to the root", kind=StorageFailure, file=file):
                act()
        assert [path.name for path in (tmp_path / "root").iterdir() if path.name != "_tmp"] == ["trials"]
