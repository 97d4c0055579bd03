"""What can be opened as a results root, and read from."""

from pathlib import Path

import pytest

from jobs.errors import Code, InvalidRequest
from jobs.results import begin, open_store, require_root
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


@pytest.mark.parametrize(
    ("root", "meant"),
    [
        ("s3:/bucket/x", "s3://bucket/x"),
        ("s3:bucket/x", "s3://bucket/x"),
        ("s3:///bucket/x", "s3://bucket/x"),
        ("S3://bucket/x", "s3://bucket/x"),
        ("s3a://bucket/x", "s3://bucket/x"),
        ("gs:/bucket/x/", "gs://bucket/x"),
        ("GS:bucket", "gs://bucket"),
        ("gcs://bucket/x", "gs://bucket/x"),
        ("file:///home/ada/root", "write /home/ada/root"),
        ("file:/home/ada/root", "write /home/ada/root"),
        ("http://127.0.0.1:9000/bucket", "s3://BUCKET"),
        ("https://bucket.s3.amazonaws.com/x", "s3://BUCKET"),
        ("az://bucket/x", "s3://BUCKET"),
        ("hdfs:/x", "s3://BUCKET"),
    ],
)
def test_an_address_that_is_written_otherwise_is_no_directory(
    root: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with refused(Code.WRONG_PLACE, root, meant, kind=InvalidRequest, file=root, key="--results"):
        open_store(root)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("root", ["./s3:bucket", "results:2026", "a b", "s3", "gs/x", "x/s3:/y"])
def test_a_directory_may_have_any_name(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(root)
    begin(store)
    assert (tmp_path / root / "root.json").is_file()
    assert open_store(store.uri).read("root.json")


@pytest.mark.parametrize("root", ["x" * 300, "x/" + "ä" * 200 + "/y", "x/" * 3000, "a\0b"])
def test_a_path_that_no_file_system_takes(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with refused(Code.WRONG_PLACE, kind=InvalidRequest, file=root, key="--results"):
        open_store(root)
    assert list(tmp_path.iterdir()) == []
