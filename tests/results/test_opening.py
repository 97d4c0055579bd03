"""What can be opened as a results root, and read from."""

from pathlib import Path

import pytest

from jobs.errors import InvalidRequest
from jobs.results import open_store, require_root
from jobs.results.object_store import ObjectStore
from tests.results.support import IMPATIENT


@pytest.mark.parametrize(
    ("root", "rule"),
    [
        ("", "it is empty here"),
        (" ", "it is empty here"),
        ("~nobody-of-this-name/x", r"~nobody.*Write the directory in full"),
    ],
)
def test_what_is_no_root_is_refused(root: str, rule: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"^a results root .*{rule}"):
        open_store(root)


def test_a_directory_to_read_from_must_exist(tmp_path: Path) -> None:
    store = open_store(tmp_path / "root")
    with pytest.raises(InvalidRequest, match=r"must exist; .*root does not. Check --results"):
        require_root(store)
    assert not (tmp_path / "root").exists()
    (tmp_path / "root").mkdir()
    require_root(store)


def test_a_prefix_to_read_from_must_have_objects(object_store: ObjectStore) -> None:
    object_store.create("a/b", b"")
    require_root(object_store)
    with pytest.raises(InvalidRequest, match=r"must exist; s3://.*/elsewhere does not"):
        require_root(ObjectStore(f"{object_store.uri}/elsewhere", IMPATIENT))
