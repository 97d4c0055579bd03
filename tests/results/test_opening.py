"""What can be opened as a results root, and read from."""

from pathlib import Path

import pytest

from jobs.errors import Code, InvalidRequest
from jobs.results import open_store, require_root
from jobs.results.object_store import ObjectStore
from tests.results.support import IMPATIENT
from tests.support import refused


@pytest.mark.parametrize(("root", "file"), [("", ""), (" ", ""), ("~nobody-of-this-name/x", "~nobody-of-this-name/x")])
def test_what_is_no_root_is_refused(root: str, file: str) -> None:
    with refused(Code.WRONG_PLACE, file, kind=InvalidRequest, file=file, key="--results"):
        open_store(root)


def test_a_directory_to_read_from_must_exist(tmp_path: Path) -> None:
    store = open_store(tmp_path / "root")
    with refused(Code.NO_ROOT, tmp_path / "root", "--results", kind=InvalidRequest, file=tmp_path / "root"):
        require_root(store)
    assert not (tmp_path / "root").exists()
    (tmp_path / "root").mkdir()
    require_root(store)


def test_a_prefix_to_read_from_must_have_objects(object_store: ObjectStore) -> None:
    object_store.create("a/b", b"")
    require_root(object_store)
    elsewhere = ObjectStore(f"{object_store.uri}/elsewhere", IMPATIENT)
    assert elsewhere.uri.startswith("s3://")
    with refused(Code.NO_ROOT, elsewhere.uri, kind=InvalidRequest, file=elsewhere.uri):
        require_root(elsewhere)
