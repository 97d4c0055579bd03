"""The contract of every results root's storage: local disk, and moto's S3 server on loopback, started by the tests.

Tests that open the store only once also cover the in-memory store that other tests use. The races show that moto's
server honours If-None-Match and If-Match: exactly one of many calls succeeds.
"""

import hashlib
import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import TypeVar

import pytest

from jobs.errors import Code, DamagedFile, InvalidRequest, RootGone
from jobs.results import LocalStore, Store, begin, open_store
from tests.contracts.writers import create_in_another_process
from tests.results.support import MemoryStore
from tests.support import refused

T = TypeVar("T")
CALLERS = 8
ROUNDS = 10


@pytest.fixture
def bucket_root(bucket: str) -> str:
    return f"s3://{bucket}/some/root"


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A root as passed to ``--results``."""
    if request.param == "local":
        return str(tmp_path / "root")
    uri: str = request.getfixturevalue("bucket_root")
    return uri


@pytest.fixture(params=["memory", "local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty root of each store type."""
    if request.param == "memory":
        return MemoryStore()
    if request.param == "local":
        return open_store(tmp_path / "root")
    return open_store(request.getfixturevalue("bucket_root"))


def at_once(call: Callable[[int], T]) -> list[T]:
    """Return the results of several threads that make the call at the same moment."""
    barrier = threading.Barrier(CALLERS)

    def run(number: int) -> T:
        barrier.wait(timeout=30)
        return call(number)

    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(run, range(CALLERS)))


def create_numbered(store: Store, key: str, number: int) -> bool:
    return store.create(key, str(number).encode())


def create_same(store: Store, key: str, _: int) -> bool:
    return store.create(key, b"same")


def swap_numbered(store: Store, before: bytes, attempt: int, number: int) -> bool:
    return store.swap("a", before, f"{attempt} {number}".encode())


class TestStore:
    """Creation is exclusive, replacement atomic, swapping conditional on the current content, and listing complete."""

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

    def test_large_objects_come_back(self, store: Store) -> None:
        large = bytes(range(256)) * 40_000  # larger than the size from which clients use multipart uploads
        store.create("large", large)
        store.replace("replaced", large)
        assert [store.read(key) for key in ("large", "replaced")] == [large, large]

    def test_creating_again_changes_nothing(self, store: Store) -> None:
        store.create("a/b.txt", b"one")
        assert store.create("a/b.txt", b"two") is False
        assert store.create("a/b.txt", b"one") is False
        assert store.read("a/b.txt") == b"one"

    @pytest.mark.parametrize("durable", [True, False])
    def test_replacing_takes_the_newest(self, store: Store, durable: bool) -> None:
        for data in (b"one", b"two", b"3"):
            store.replace("a/b.txt", data, durable=durable)
            assert store.read("a/b.txt") == data

    def test_replacing_takes_part_in_exclusion(self, store: Store) -> None:
        store.replace("a", b"one")
        assert not store.create("a", b"two")

    def test_a_swap_needs_the_expected_bytes(self, store: Store) -> None:
        assert not store.swap("a", b"one", b"two")
        assert store.swap("a", None, b"one")
        assert not store.swap("a", None, b"two")
        assert not store.swap("a", b"other", b"two")
        assert store.swap("a", b"one", b"two")
        assert store.read("a") == b"two"

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

    def test_a_bucket_is_listed_beyond_a_page(self, bucket_root: str) -> None:
        """S3 lists a thousand keys at a time. The objects are put directly into the server's memory, which is fast."""
        from moto.core.models import DEFAULT_ACCOUNT_ID
        from moto.s3.models import s3_backends

        bucket, prefix = bucket_root.removeprefix("s3://").split("/", 1)
        keys = {f"a/{number:04d}" for number in range(2500)}
        for key in keys:
            s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(bucket, f"{prefix}/{key}", b"x")
        assert set(open_store(bucket_root).keys("a")) == keys

    def test_a_root_that_is_begun_holds_its_record_alone(self, store: Store) -> None:
        begin(store)
        assert list(store.keys("_tmp")) == []
        if isinstance(store, LocalStore):
            assert [path.name for path in store.directory.rglob("*") if path.is_file()] == ["root.json"]

    def test_storage_that_ignores_conditions_is_refused(self) -> None:
        class Overwrites(MemoryStore):
            def create(self, key: str, data: bytes) -> bool:
                self.replace(key, data)
                return True

        store = Overwrites()
        with refused(Code.ROOT_NOT_WRITABLE, store.uri, "--results", kind=InvalidRequest, file=store.uri):
            begin(store)
        assert list(store.keys("")) == []

    def test_unfinished_writing_is_in_no_listing(self, store: Store) -> None:
        store.create("trials/x", b"")
        store.replace("trials/x", b"y")
        store.create("trials/x", b"z")
        assert list(store.keys("trials")) == ["trials/x"]

    def test_opening_again_by_uri_finds_everything(self, root: str) -> None:
        store = open_store(root)
        store.create("a/b.txt", b"one")
        assert open_store(store.uri).read("a/b.txt") == b"one"

    def test_opening_makes_nothing(self, root: str, tmp_path: Path) -> None:
        store = open_store(root)
        assert list(store.keys("trials")) == []
        assert not any(path.name == "root" for path in tmp_path.iterdir())

    def test_of_many_creators_exactly_one_wins(self, store: Store) -> None:
        for attempt in range(ROUNDS):
            key = f"a/{attempt}"
            won = at_once(partial(create_numbered, store, key))
            assert sum(won) == 1
            assert store.read(key) == str(won.index(True)).encode()

    def test_of_many_creators_of_the_same_bytes_exactly_one_wins(self, store: Store) -> None:
        for attempt in range(ROUNDS):
            assert sum(at_once(partial(create_same, store, f"a/{attempt}"))) == 1

    def test_of_many_swappers_exactly_one_wins(self, store: Store) -> None:
        store.create("a", b"start")
        present = b"start"
        for attempt in range(ROUNDS):
            won = at_once(partial(swap_numbered, store, present, attempt))
            assert sum(won) == 1
            present = store.read("a")
            assert present == f"{attempt} {won.index(True)}".encode()

    def test_one_of_two_processes_wins(self, root: str) -> None:
        store = open_store(root)
        context = multiprocessing.get_context("spawn")
        start = context.Barrier(2)
        won: SimpleQueue[int] = context.SimpleQueue()
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
        """While one thread replaces the object, another reads it: every read returns a whole object."""
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

    def test_what_is_held_must_stand_for_every_write(self, store: Store) -> None:
        store.create("launches/own", b"1")
        store.create("a", b"1")
        store.hold("launches/own")
        store.replace("launches/own", b"2")
        store.delete("launches/own")
        writes: list[Callable[[], object]] = [
            lambda: store.create("b", b""),
            lambda: store.replace("b", b""),
            lambda: store.swap("b", None, b""),
            lambda: store.swap("a", b"1", b"2"),
            lambda: store.delete("a"),
            lambda: store.hold("launches/own"),
            store.require_held,
        ]
        for write in writes:
            with refused(Code.STORAGE, store.uri, "launches/own", "resume", kind=RootGone, file=store.uri):
                write()
        assert list(store.keys("")) == ["a"]
        assert store.read("a") == b"1"
        store.hold()
        assert store.create("b", b"")

    def test_hidden_names_are_in_no_listing(self, store: Store) -> None:
        for key in ("a/x", "a/.hidden", ".hidden/x", "a/.b/c", "a/b.c/..x"):
            store.replace(key, b"")
        assert sorted(store.keys("")) == ["a/x"]
        assert sorted(store.keys("a")) == ["a/x"]
        assert store.survey("a") == (["a/x"], {})


def test_the_start_of_an_object_is_read(store: Store) -> None:
    store.create("a/b", b"0123456789")
    assert store.read_start("a/b", 4) == b"0123"
    assert store.read_start("a/b", 10) == b"0123456789"
    assert store.read_start("a/b", 1000) == b"0123456789"
    with pytest.raises(FileNotFoundError):
        store.read_start("a/c", 4)


def test_the_storage_says_when_an_object_was_written(store: Store) -> None:
    """The clock of these storages is that of this machine; S3 gives whole seconds."""
    tolerated = timedelta(seconds=2)
    for write in (store.create, store.replace):
        before = datetime.now(UTC)
        write("a/b", b"1")
        assert before - tolerated <= store.written_at("a/b") <= datetime.now(UTC) + tolerated
    with pytest.raises(FileNotFoundError):
        store.written_at("a/c")


@pytest.mark.parametrize("size", [0, 1, 1_000_003])
def test_the_digest_of_an_object_is_that_of_its_bytes(size: int, store: Store) -> None:
    """Read in parts, by stores with large objects."""
    data = bytes(range(251)) * (size // 251) + bytes(size % 251)
    store.create("a/b", data)
    assert store.sha256_within("a/b", size) == hashlib.sha256(data).hexdigest()
    with pytest.raises(DamagedFile, match=f"at most {size - 1:,} bytes; .*a/b has {size:,}"):
        store.sha256_within("a/b", size - 1)
    with pytest.raises(FileNotFoundError):
        store.sha256_within("a/c", size)
