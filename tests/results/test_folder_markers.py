"""Empty objects with which consoles and other programs mark folders in a bucket: ``root/failures/``."""

from collections.abc import Iterable

import pytest

from jobs.errors import Code, InvalidRequest
from jobs.results import (
    begin,
    commit,
    compact,
    done,
    next_attempt,
    read_failures,
    read_launches,
    read_trials,
    record_study,
    recorded_studies,
    require_root,
    with_weights,
    write_launch,
)
from jobs.results.layout import failure_key, launch_key, trained_weights_key
from jobs.results.object_store import ObjectStore
from jobs.verification.verify import verify
from tests.results.servers import Proxy
from tests.results.support import FAILURE, IMPATIENT, KIND, LAUNCH, held, once, rows, trial
from tests.support import refused

EMPTY = (
    "trials/attack/",
    "trials/attack/00/",
    "failures/a trial without failures/",
    "cards/",
    "logs/",
    "conflicts/",
    "_tmp/",
    "_tmp/locks/",
    "another's/",
)


def mark(store: ObjectStore, folders: Iterable[str]) -> None:
    """Put markers into the server's memory; our client cannot write a key that ends with a slash."""
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    bucket, prefix = store.uri.removeprefix("s3://").split("/", 1)
    for folder in folders:
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(bucket, f"{prefix}/{folder}", b"")


def folders_of(keys: Iterable[str]) -> set[str]:
    return {key[: place + 1] for key in keys for place, letter in enumerate(key) if letter == "/"}


@pytest.fixture
def store(object_store: ObjectStore) -> ObjectStore:
    """A root with a marker for every folder, and for others that are empty."""
    begin(object_store)
    commit(object_store, KIND, rows(1))
    compact(object_store, KIND)
    write_launch(object_store, LAUNCH)
    record_study(object_store, "mine", "d1", "contrasts: []\n")
    object_store.create(failure_key(FAILURE.trial_id, 1), b"{}")
    object_store.delete(failure_key(FAILURE.trial_id, 1))
    object_store.create(trained_weights_key(trial(1)), b"weights")
    mark(object_store, ["", *folders_of(object_store.keys("")), *EMPTY])
    return object_store


def test_markers_are_in_no_listing(store: ObjectStore) -> None:
    keys = set(store.keys(""))
    assert {"root.json", launch_key(LAUNCH.launch)} < keys
    assert not {folder.rstrip("/") for folder in folders_of(keys) | set(EMPTY)} & keys
    assert all(store.read(key) for key in keys)
    for folder in folders_of(keys):
        assert set(store.keys(folder.rstrip("/"))) == {key for key in keys if key.startswith(folder)}
    for folder in EMPTY:
        assert list(store.keys(folder.rstrip("/"))) == []


def test_empty_objects_are_listed(store: ObjectStore) -> None:
    """Only what cannot be read under its key is a marker."""
    for key in ("logs/x/1.log", "logs/x/2.log", "z"):
        store.create(key, b"")
    assert set(store.keys("logs")) == {"logs/x/1.log", "logs/x/2.log"}
    assert "z" in set(store.keys(""))


def test_a_root_with_markers_is_read(store: ObjectStore) -> None:
    begin(store)
    commit(store, KIND, rows(2))
    assert held(read_trials(store, KIND)) == once({1, 2})
    compact(store, KIND)
    assert (len(done(store, KIND)), len(done(store, "attack")), with_weights(store)) == (2, 0, {trial(1)})
    assert (read_failures(store), read_launches(store), len(recorded_studies(store))) == ([], [LAUNCH], 1)
    assert next_attempt(store, "a trial without failures") == 1
    store.delete(trained_weights_key(trial(1)))
    assert [finding for finding in verify(store) if not finding.problem.harmless and "studies" not in finding.key] == []


def test_a_prefix_that_is_only_a_marker_is_no_root(object_store: ObjectStore) -> None:
    mark(object_store, ["", "failures/"])
    with refused(Code.NO_ROOT, object_store.uri, kind=InvalidRequest, file=object_store.uri):
        require_root(object_store)


def test_markers_of_folders_with_objects_take_no_requests(store: ObjectStore, proxy: Proxy) -> None:
    """Some programs mark each of the 256 folders of results."""
    behind = ObjectStore(store.uri, IMPATIENT)
    assert len(list(behind.keys(f"trials/{KIND}"))) == 1
    assert len(proxy.requests) == 1
