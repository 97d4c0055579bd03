"""Fixtures of the results' tests: an S3 server for the session, and stores of every type."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.results import LocalStore, Store
from jobs.results.object_store import ObjectStore
from tests.results.fixtures import bucket, s3
from tests.results.servers import S3, Proxy, proxy_before
from tests.results.support import IMPATIENT, MemoryStore

__all__ = ["bucket", "s3"]


@pytest.fixture
def proxy(s3: S3, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy in front of the server; stores opened from now on go through it."""
    with proxy_before(s3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


@pytest.fixture
def object_store(bucket: str) -> ObjectStore:
    return ObjectStore(f"s3://{bucket}/some/root", IMPATIENT)


@pytest.fixture(params=["memory", "local", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty root of each store type."""
    if request.param == "memory":
        return MemoryStore()
    if request.param == "local":
        return LocalStore(tmp_path / "root")
    store: ObjectStore = request.getfixturevalue("object_store")
    return store
