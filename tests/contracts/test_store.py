"""What every results root's storage must do: local disk, and an S3 server on loopback that tests start (moto's)."""

import multiprocessing
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.results import Store, open_store

STORES: dict[str, Callable[[Path], str]] = {
    "local": lambda folder: str(folder / "root"),
}
"""From a folder of the test's own to what ``--results`` would be given."""


@pytest.fixture(params=[*STORES, "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return f"s3://{request.getfixturevalue('bucket')}/some/root"
    return STORES[request.param](tmp_path)


@pytest.fixture
def store(root: str) -> Store:
    return open_store(root)


def create_in_another_process(root: str, key: str, writer: int, start: "multiprocessing.Barrier", won: object) -> None:  # type: ignore[valid-type]
    store = open_store(root)
    start.wait()  # type: ignore[attr-defined]
    if store.create(key, f"writer {writer}".encode() * 1000):
        won.put(writer)  # type: ignore[attr-defined]


class TestStore:
    """Creation is exclusive, replacement whole, listing complete."""

    def test_what_is_created_is_read(self, store: Store) -> None:
        assert store.create("a/b.txt", b"one") is True
        assert store.read("a/b.txt") == b"one"

    def test_empty_objects_are_objects(self, store: Store) -> None:
        assert store.create("empty", b"")
        assert store.read("empty") == b""
        assert not store.create("empty", b"one")

    def test_any_bytes_come_back(self, store: Store) -> None:
        data = bytes(range(256)) * 4096
        store.create("bytes", data)
        assert store.read("bytes") == data

    def test_creating_again_changes_nothing(self, store: Store) -> None:
        store.create("a/b.txt", b"one")
        assert store.create("a/b.txt", b"two") is False
        assert store.create("a/b.txt", b"one") is False
        assert store.read("a/b.txt") == b"one"

    def test_replacing_takes_the_newest(self, store: Store) -> None:
        for data in (b"one", b"two", b"3"):
            store.replace("a/b.txt", data)
            assert store.read("a/b.txt") == data

    def test_replacing_takes_part_in_exclusion(self, store: Store) -> None:
        store.replace("a", b"one")
        assert not store.create("a", b"two")

    def test_what_is_not_there_cannot_be_read(self, store: Store) -> None:
        with pytest.raises(FileNotFoundError):
            store.read("a/b.txt")
        store.create("a/c.txt", b"")
        with pytest.raises(FileNotFoundError):
            store.read("a/b.txt")

    def test_deleting(self, store: Store) -> None:
        store.create("a/b.txt", b"one")
        store.create("a/c.txt", b"two")
        store.delete("a/b.txt")
        assert list(store.keys("a")) == ["a/c.txt"]
        with pytest.raises(FileNotFoundError):
            store.read("a/b.txt")
        assert store.create("a/b.txt", b"three"), "the key is free again"

    def test_deleting_what_is_not_there_is_no_error(self, store: Store) -> None:
        store.delete("a/b.txt")
        store.create("a/c.txt", b"")
        store.delete("a/b.txt")

    def test_keys_are_all_below_a_folder_and_no_others(self, store: Store) -> None:
        for key in ("trials/finetune/ab/x.parquet", "trials/finetune/cd/y.parquet", "trials/other/z", "trialsx/w"):
            store.create(key, b"")
        assert sorted(store.keys("trials/finetune")) == ["trials/finetune/ab/x.parquet", "trials/finetune/cd/y.parquet"]
        assert len(list(store.keys("trials"))) == 3

    def test_keys_of_a_folder_that_is_not_there(self, store: Store) -> None:
        assert list(store.keys("trials")) == []
        store.create("trials/x", b"")
        assert list(store.keys("trials/finetune")) == []

    def test_listing_many(self, store: Store) -> None:
        expected = {f"many/{i % 7}/{i}.txt" for i in range(300)}
        for key in expected:
            store.create(key, b"x")
        assert set(store.keys("many")) == expected
        assert len(list(store.keys("many"))) == 300

    def test_unfinished_writing_is_in_no_listing(self, store: Store) -> None:
        store.create("trials/x", b"")
        store.replace("trials/x", b"y")
        store.create("trials/x", b"z")
        assert list(store.keys("trials")) == ["trials/x"]

    def test_opening_again_by_uri_finds_everything(self, store: Store) -> None:
        store.create("a/b.txt", b"one")
        assert open_store(store.uri).read("a/b.txt") == b"one"

    def test_opening_makes_nothing(self, store: Store, tmp_path: Path) -> None:
        assert list(store.keys("trials")) == []
        assert not any(path.name == "root" for path in tmp_path.iterdir())

    def test_one_of_many_threads_wins(self, store: Store) -> None:
        start = threading.Barrier(8)
        won: list[int] = []

        def create(writer: int) -> None:
            start.wait()
            if store.create("race", f"writer {writer}".encode()):
                won.append(writer)

        threads = [threading.Thread(target=create, args=(writer,)) for writer in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert store.read("race") == f"writer {won[0]}".encode()

    def test_one_of_two_processes_wins(self, root: str, store: Store) -> None:
        context = multiprocessing.get_context("spawn")
        start, won = context.Barrier(2), context.SimpleQueue()
        writers = [
            context.Process(target=create_in_another_process, args=(root, "race/key", writer, start, won))
            for writer in range(2)
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert [writer.exitcode for writer in writers] == [0, 0]
        winner = won.get()
        assert won.empty(), "exactly one wins"
        assert store.read("race/key") == f"writer {winner}".encode() * 1000

    def test_readers_see_the_old_or_the_new_object(self, store: Store) -> None:
        """While one thread replaces, another reads: every reading is whole."""
        versions = [bytes([i]) * 50_000 for i in range(4)]
        store.replace("hot", versions[0])
        stop = threading.Event()
        broken: list[int] = []

        def read() -> None:
            while not stop.is_set():
                if store.read("hot") not in versions:
                    broken.append(1)

        reader = threading.Thread(target=read)
        reader.start()
        for i in range(60):
            store.replace("hot", versions[i % 4])
        stop.set()
        reader.join()
        assert not broken
