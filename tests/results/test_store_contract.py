"""What ``tests/contracts`` does not ask of a store: swaps, races between equals, pages, large objects.

The races show that moto's server honours If-None-Match and If-Match: of many exactly one wins.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from jobs.results import LocalStore, Store, require_writable
from jobs.results.object_store import ObjectStore

T = TypeVar("T")
CALLERS = 8
ROUNDS = 10


def at_once(call: Callable[[int], T]) -> list[T]:
    """What several threads get that call in the same moment."""
    barrier = Barrier(CALLERS)

    def run(number: int) -> T:
        barrier.wait(timeout=30)
        return call(number)

    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(run, range(CALLERS)))


def test_empty_and_large_objects(any_store: Store) -> None:
    large = bytes(range(256)) * 40_000  # beyond the size at which clients begin to write in parts
    any_store.create("empty", b"")
    any_store.create("large", large)
    any_store.replace("replaced", large)
    assert [any_store.read(key) for key in ("empty", "large", "replaced")] == [b"", large, large]


@pytest.mark.parametrize("durable", [True, False])
def test_replace_puts_and_overwrites(any_store: Store, durable: bool) -> None:
    any_store.replace("a/b", b"one", durable=durable)
    any_store.replace("a/b", b"two", durable=durable)
    assert any_store.read("a/b") == b"two"


def test_swap_needs_the_expected_bytes(any_store: Store) -> None:
    assert not any_store.swap("a", b"one", b"two")
    assert any_store.swap("a", None, b"one")
    assert not any_store.swap("a", None, b"two")
    assert not any_store.swap("a", b"other", b"two")
    assert any_store.swap("a", b"one", b"two")
    assert any_store.read("a") == b"two"


def test_a_bucket_is_listed_beyond_a_page(object_store: ObjectStore) -> None:
    """S3 lists a thousand at a time. The objects are put into the server's memory directly, which takes no time."""
    bucket, prefix = object_store.uri.removeprefix("s3://").split("/", 1)
    keys = {f"a/{number:04d}" for number in range(2500)}
    for key in keys:
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(bucket, f"{prefix}/{key}", b"")
    assert set(object_store.keys("a")) == keys


def test_of_many_creators_exactly_one_wins(any_store: Store) -> None:
    for attempt in range(ROUNDS):
        key = f"a/{attempt}"
        won = at_once(lambda number, key=key: any_store.create(key, str(number).encode()))
        assert sum(won) == 1
        assert any_store.read(key) == str(won.index(True)).encode()


def test_of_many_creators_of_the_same_bytes_exactly_one_wins(any_store: Store) -> None:
    for attempt in range(ROUNDS):
        assert sum(at_once(lambda _, attempt=attempt: any_store.create(f"a/{attempt}", b"same"))) == 1


def test_of_many_swappers_exactly_one_wins(any_store: Store) -> None:
    any_store.create("a", b"start")
    present = b"start"
    for attempt in range(ROUNDS):
        won = at_once(lambda number, before=present, a=attempt: any_store.swap("a", before, f"{a} {number}".encode()))
        assert sum(won) == 1
        present = any_store.read("a")
        assert present == f"{attempt} {won.index(True)}".encode()


def test_require_writable_leaves_nothing_behind(any_store: Store) -> None:
    require_writable(any_store)
    assert list(any_store.keys("_tmp")) == []
    if isinstance(any_store, LocalStore):
        assert [path for path in any_store.directory.rglob("*") if path.is_file()] == []
