"""The S3 server of the tests, for every conftest that needs it."""

from contextlib import ExitStack

import pytest

from tests.results.servers import ENVIRONMENT, S3, s3_server

_RUNNING = pytest.StashKey[S3]()


@pytest.fixture(scope="session")
def s3(pytestconfig: pytest.Config) -> S3:
    """One server for the whole session, even if several conftests import this fixture."""
    if _RUNNING not in pytestconfig.stash:
        stack = ExitStack()
        pytestconfig.stash[_RUNNING] = stack.enter_context(s3_server())
        pytestconfig.add_cleanup(stack.close)
    return pytestconfig.stash[_RUNNING]


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket, with the environment set to reach its server."""
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": s3.endpoint}.items():
        monkeypatch.setenv(name, value)
    return s3.make_bucket()
