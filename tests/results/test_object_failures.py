"""An object store that returns errors, stalls, loses replies, refuses access or is unreachable."""

import time
from typing import Any

import pytest

from jobs.errors import Code, DeltaSweepError, InvalidRequest, StorageFailure
from jobs.results import Committed, Store, begin, commit, done, open_store, read_trials
from jobs.results.object_store import ObjectStore
from tests.results.servers import Mishap, Proxy, answer, lose_reply, never_answer, without
from tests.results.support import IMPATIENT, KIND, held, once, rows
from tests.support import refused


@pytest.fixture
def store(proxy: Proxy, bucket: str) -> ObjectStore:
    """A root behind the proxy."""
    return ObjectStore(f"s3://{bucket}/root", IMPATIENT)


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_that_errs_and_recovers_is_waited_for(store: Store, proxy: Proxy, status: int) -> None:
    proxy.mishaps = [answer(status)] * 3
    assert commit(store, KIND, rows(1)) is Committed.NEW
    proxy.mishaps = [answer(status)] * 3
    store.replace("checkpoints/x", b"state")
    proxy.mishaps = [answer(status)] * 3
    assert held(read_trials(store, KIND)) == once({1})
    assert store.read("checkpoints/x") == b"state"


@pytest.mark.parametrize("mishap", [lose_reply, never_answer])
def test_a_commit_whose_reply_is_lost_is_new_and_no_conflict(store: Store, proxy: Proxy, mishap: Mishap) -> None:
    proxy.mishaps = [mishap]
    assert commit(store, KIND, rows(1)) is Committed.NEW
    assert len([line for line in proxy.requests if line.startswith("PUT")]) == 2, (
        "the reply was lost, so it asked again"
    )
    assert list(store.keys("conflicts")) == []
    assert commit(store, KIND, rows(1)) is Committed.ALREADY_THERE


@pytest.mark.parametrize("mishap", [lose_reply, never_answer])
def test_a_lost_reply_is_told_from_a_lost_race(store: Store, proxy: Proxy, mishap: Mishap) -> None:
    store.create("a", b"same")
    proxy.mishaps = [mishap]
    assert not store.create("a", b"same")
    proxy.mishaps = [lambda _: False, mishap]  # the first request reads the current object
    assert store.swap("a", b"same", b"other")
    assert store.read("a") == b"other"


def test_a_refusal_while_another_write_is_in_flight_is_tried_again(store: Store, proxy: Proxy) -> None:
    proxy.mishaps = [answer(409)]
    assert store.create("a", b"one")
    assert store.read("a") == b"one"


def test_a_server_that_stays_down_is_named_and_nothing_is_lost(store: Store, proxy: Proxy) -> None:
    commit(store, KIND, rows(1))
    proxy.mishaps = [answer(503)] * 1000
    for call in (
        lambda: commit(store, KIND, rows(2)),
        lambda: read_trials(store, KIND),
        lambda: store.replace("a", b""),
        lambda: store.delete("a"),
        lambda: store.swap("a", b"", b""),
    ):
        with refused(Code.STORAGE, store.uri, "AWS_ENDPOINT_URL", kind=StorageFailure, file=store.uri):
            call()
    proxy.mishaps = []
    assert held(read_trials(store, KIND)) == once({1})
    assert commit(store, KIND, rows(2)) is Committed.NEW


def test_a_large_object_has_time_to_be_created(store: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conditional write is one request, however large, and a large one may take longer than a small one."""

    def slow(_: object) -> bool:
        time.sleep(1.5 * IMPATIENT.request_seconds)
        return False

    monkeypatch.setattr("jobs.results.object_store._ONE_REQUEST", 3)
    monkeypatch.setattr("jobs.results.object_store._SLOWEST", 1)
    proxy.mishaps = [slow]
    assert store.create("large", b"123456789")
    assert len(proxy.requests) == 1
    assert store.read("large") == b"123456789"


def test_a_reader_that_is_kept_waiting_asks_again(store: Store, proxy: Proxy) -> None:
    store.create("a", b"one")
    proxy.mishaps = [never_answer]
    assert store.read("a") == b"one"


def test_nobody_there(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # the discard port, where nothing listens
    store = ObjectStore(f"s3://{bucket}/root", IMPATIENT)
    with refused(Code.STORAGE, store.uri, "AWS_ENDPOINT_URL", kind=StorageFailure, file=store.uri):
        store.create("a", b"")
    with refused(Code.STORAGE, store.uri, "AWS_ENDPOINT_URL", kind=StorageFailure, file=store.uri):
        begin(store)  # the network is down: the request is valid and may succeed later


@pytest.mark.parametrize("status", [500, 503, 408, 409, 412, 429])
def test_a_root_is_not_called_unwritable_when_the_storage_fails(store: Store, proxy: Proxy, status: int) -> None:
    proxy.mishaps = [answer(status)] * 100
    with refused(Code.STORAGE, store.uri, kind=StorageFailure, file=store.uri):
        begin(store)


@pytest.mark.parametrize("status", [400, 401, 403, 301])
def test_a_root_that_refuses_is_not_writable(store: Store, proxy: Proxy, status: int) -> None:
    proxy.mishaps = [answer(status)] * 100
    with refused(Code.ROOT_NOT_WRITABLE, store.uri, "--results", kind=InvalidRequest, file=store.uri):
        begin(store)


@pytest.mark.parametrize("condition", ["If-None-Match", "If-Match"])
def test_a_bucket_that_ignores_conditions_is_refused(store: Store, proxy: Proxy, condition: str) -> None:
    proxy.mishaps = [without(condition)] * 100
    values = (store.uri, f"({condition})", "--results")
    with refused(Code.ROOT_NOT_WRITABLE, *values, kind=InvalidRequest, file=store.uri, key="--results"):
        begin(store)
    assert list(store.keys("")) == [], "nothing is left behind"


def test_a_bucket_without_conditional_writes_is_refused(store: Store, proxy: Proxy) -> None:
    def not_implemented(handler: Any) -> bool:
        return "If-None-Match" in handler.headers and answer(501)(handler)

    proxy.mishaps = [not_implemented] * 100
    with refused(Code.ROOT_NOT_WRITABLE, store.uri, "conditional", "--results", kind=InvalidRequest, file=store.uri):
        begin(store)


def test_few_requests_begin_a_root(store: Store, proxy: Proxy) -> None:
    begin(store)
    own = [line.split()[0] for line in proxy.requests if "_tmp" in line or "?delete" in line]
    assert own == ["PUT"] * 4 + ["POST"]


@pytest.mark.parametrize(("status", "value"), [(403, "credentials"), (401, "AWS_ACCESS_KEY_ID"), (301, "AWS_REGION")])
def test_refusals_say_what_to_do(store: Store, proxy: Proxy, status: int, value: str) -> None:
    for call in (lambda: store.create("a", b""), lambda: store.read("a"), lambda: list(store.keys("a"))):
        proxy.mishaps = [answer(status)]
        with refused(Code.STORAGE, store.uri, value, kind=StorageFailure, file=store.uri):
            call()


def test_a_missing_bucket_is_named(object_store: Store) -> None:
    store = ObjectStore("s3://there-is-no-such-bucket/root", IMPATIENT)
    for call in (lambda: store.create("a", b""), lambda: store.read("a"), lambda: done(store, KIND)):
        with refused(Code.WRONG_PLACE, store.uri, "--results", kind=StorageFailure, file=store.uri):
            call()
    with refused(Code.ROOT_NOT_WRITABLE, store.uri, "--results", kind=InvalidRequest, file=store.uri):
        begin(store)


def test_no_credentials(bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", proxy.endpoint)  # replaces the cloud's metadata server
    proxy.mishaps = [answer(404)] * 100
    with refused(Code.STORAGE, f"s3://{bucket}", "AWS_SECRET_ACCESS_KEY", kind=StorageFailure):
        ObjectStore(f"s3://{bucket}/root", IMPATIENT).create("a", b"")


@pytest.mark.parametrize("uri", ["s3://", "s3:///x", "ftp://x/y", "s3://b/a//c"])
def test_a_root_that_cannot_be_is_refused(uri: str) -> None:
    with refused(Code.WRONG_PLACE, "s3://BUCKET/PREFIX", uri, kind=InvalidRequest, file=uri, key="--results"):
        open_store(uri)


@pytest.mark.parametrize(
    ("given", "uri"),
    [("s3://b", "s3://b"), ("s3://b/", "s3://b"), ("s3://b/a b/c/", "s3://b/a b/c"), ("gs://b/a", "gs://b/a")],
)
def test_the_uri_is_the_root_without_a_slash_at_its_end(bucket: str, given: str, uri: str) -> None:
    assert open_store(given).uri == uri
    assert open_store(open_store(given).uri).uri == uri


def test_a_storage_failure_is_the_machines_fault() -> None:
    assert issubclass(StorageFailure, DeltaSweepError)
    assert issubclass(StorageFailure, OSError)
