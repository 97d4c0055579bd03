"""Where a report goes, and that it goes there whole or is refused before any work."""

import errno
import os
import sys
from pathlib import Path

import pytest

import analysis
import analysis.page
from jobs.errors import InvalidRequest, ResultsConflict, StorageFailure
from tests.analysis.support import Build


def everything(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads results has begun to work."""

    def read(*_: object) -> None:
        raise AssertionError("results were read before the place of the report was looked at")

    monkeypatch.setattr(sys.modules["analysis.page.report"], "gather", read)


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("file", r"file is none, so .*file cannot be one\. Name another with --out"),
        ("file/below", r"file is none, so .*below cannot be one"),
        ("file/below/deeper", r"file is none, so"),
        ("dangling", r"dangling is none"),
        ("root", "in a results root the report goes into .*report"),
        ("root/trials", "in a results root the report goes into .*report"),
        ("root/report/../trials/finetune", "in a results root the report goes into .*report"),
    ],
)
def test_a_place_that_cannot_be_is_refused_before_any_work(
    build: Build, no_reading: None, out: str, words: str
) -> None:
    root = build.root([build.trial("natural", 0, 50.0)])
    (build.folder / "file").write_text("kept")
    (build.folder / "dangling").symlink_to(build.folder / "nowhere")
    before = everything(build.folder)
    with pytest.raises(InvalidRequest, match=words):
        analysis.report(root, build.folder / out)
    assert everything(build.folder) == before
    assert (build.folder / "file").read_text() == "kept"


@pytest.mark.parametrize(("out", "words"), [("s3://bucket/x", "of this machine"), ("", "of this machine")])
def test_words_that_name_no_directory(build: Build, no_reading: None, out: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        analysis.report(build.root([]), out)


@pytest.mark.parametrize("out", ["closed", "closed/below/deeper"])
def test_a_directory_that_cannot_be_written_is_refused_before_any_work(
    build: Build, no_reading: None, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    """Permissions do not bind root, so what the system would answer another user is said here."""
    root = build.root([])
    closed = build.folder / "closed"
    closed.mkdir()

    def refuse(dir: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(dir))

    monkeypatch.setattr("analysis.page.directory.TemporaryFile", refuse)
    with pytest.raises(InvalidRequest, match=r"cannot \(Permission denied\)\. Mend its permissions"):
        analysis.report(root, build.folder / out)
    assert everything(closed) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root; run the tests as another user")
def test_permissions_are_seen(build: Build) -> None:
    root, closed = build.root([]), build.folder / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(InvalidRequest, match=r"cannot \(Permission denied\)\. Mend its permissions"):
        analysis.report(root, closed / "below")
    assert everything(closed) == []


def test_what_fails_while_writing_is_one_message(build: Build) -> None:
    out = build.folder / "out"
    (out / "index.html").mkdir(parents=True)
    with pytest.raises(StorageFailure, match=r"cannot be written into .*index.html.*it is not complete"):
        analysis.report(build.root([]), out)


def test_nothing_is_made_for_a_root_that_cannot_be_read(build: Build) -> None:
    root = build.root([build.trial("natural", 0, 50.0)])
    next(root.glob("trials/*/*/*.parquet")).write_bytes(b"torn")
    with pytest.raises(Exception, match="not a readable Parquet file"):
        analysis.report(root, build.folder / "out")
    assert not (build.folder / "out").exists()


def test_nothing_is_made_for_results_in_conflict(build: Build) -> None:
    other = build.trial("robust", 0, 51.0, blocks=1, constraint="l2", subset_sha256="0" * 64)
    root = build.root([*build.arms([50.0], [51.0]), build.trial("natural", 0, 50.0, blocks=1), other])
    with pytest.raises(ResultsConflict, match="trials of one seed train on one subset"):
        analysis.report(root, build.folder / "out")
    assert not (build.folder / "out").exists()


def test_an_out_below_nothing_is_made(build: Build) -> None:
    assert analysis.report(build.root([]), build.folder / "new" / "deep").is_file()


def test_without_out_it_lies_in_the_root(build: Build) -> None:
    root = build.root([])
    assert analysis.report(root) == root / "report" / "index.html"


def test_a_root_that_only_made_sources_says_so(build: Build) -> None:
    page = analysis.report(build.pretrained()).read_text(encoding="utf-8")
    assert "No fine-tuning trial has finished here yet." in page
    assert "1 trial of other kinds" in page
