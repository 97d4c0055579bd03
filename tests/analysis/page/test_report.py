"""Where a report is written: it is written completely, or refused before any work."""

import errno
import gc
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

import analysis
import analysis.page
from jobs.errors import Code, DamagedFile, InvalidRequest, ResultsConflict, StorageFailure
from tests.analysis.support import Build
from tests.file_systems import LINKS
from tests.machine import bound_by_permissions
from tests.support import refused


def everything(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make reading results an error, because it means that work has begun."""

    def read(*_: object) -> None:
        raise AssertionError("results were read before the place of the report was looked at")

    monkeypatch.setattr(sys.modules["analysis.page.report"], "read", read)


@pytest.mark.parametrize(
    ("out", "file", "named"),
    [
        ("file", "file", ["file", "--out"]),
        ("file/below", "file", ["file", "file/below", "--out"]),
        ("file/below/deeper", "file", ["file", "file/below/deeper", "--out"]),
        ("dangling", "dangling", ["dangling", "--out"]),
        ("root", "root", ["root/report", "--out"]),
        ("root/trials", "root/trials", ["root/report", "--out"]),
        ("root/report/../trials/finetune", "root/report/../trials/finetune", ["root/report", "--out"]),
    ],
)
def test_a_place_that_cannot_be_is_refused_before_any_work(
    build: Build, no_reading: None, out: str, file: str, named: list[str]
) -> None:
    root = build.root([build.trial("natural", 0, 50.0)])
    (build.folder / "file").write_text("kept")
    (build.folder / "dangling").symlink_to(build.folder / "nowhere")
    before = everything(build.folder)
    values = [name if name == "--out" else build.folder / name for name in named]
    with refused(Code.WRONG_PLACE, *values, kind=InvalidRequest, file=build.folder / file, key="--out"):
        analysis.report(root, build.folder / out)
    assert everything(build.folder) == before
    assert (build.folder / "file").read_text() == "kept"


@pytest.mark.parametrize("out", ["s3://bucket/x", ""])
def test_words_that_name_no_directory(build: Build, no_reading: None, out: str) -> None:
    with refused(Code.WRONG_PLACE, f"--out {out!r}", kind=InvalidRequest, file=out, key="--out"):
        analysis.report(build.root([]), out)


@pytest.mark.parametrize("out", ["closed", "closed/below/deeper"])
def test_a_directory_that_cannot_be_written_is_refused_before_any_work(
    build: Build, no_reading: None, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    """Permissions do not restrict root, so the error that another user would get is raised by the test."""
    root = build.root([])
    closed = build.folder / "closed"
    closed.mkdir()

    def refuse(dir: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(dir))

    monkeypatch.setattr("analysis.page.directory.TemporaryFile", refuse)
    directory = build.folder / out
    values = (directory, "Permission denied", "--out")
    with refused(Code.WRONG_PLACE, *values, kind=InvalidRequest, file=directory, key="--out"):
        analysis.report(root, build.folder / out)
    assert everything(closed) == []


@bound_by_permissions
def test_permissions_are_seen(build: Build) -> None:
    root, closed = build.root([]), build.folder / "closed"
    closed.mkdir(mode=0o500)
    below = closed / "below"
    with refused(Code.WRONG_PLACE, below, "Permission denied", kind=InvalidRequest, file=below, key="--out"):
        analysis.report(root, below)
    assert everything(closed) == []


def test_what_fails_while_writing_is_one_message(build: Build) -> None:
    out = build.folder / "out"
    (out / "index.html").mkdir(parents=True)
    page = out / "index.html"
    with refused(Code.WRONG_PLACE, page, "a folder", "--out", kind=StorageFailure, file=page, key="--out"):
        analysis.report(build.root([]), out)
    assert list(out.iterdir()) == [page]


def test_nothing_is_made_for_a_root_that_cannot_be_read(build: Build) -> None:
    root = build.root([build.trial("natural", 0, 50.0)])
    torn = next(root.glob("trials/*/*/*.parquet"))
    torn.write_bytes(b"torn")
    with refused(Code.DAMAGED_RESULT, torn, kind=DamagedFile, file=torn):
        analysis.report(root, build.folder / "out")
    assert not (build.folder / "out").exists()


def test_nothing_is_made_for_results_in_conflict(build: Build) -> None:
    other = build.trial("robust", 0, 51.0, blocks=1, constraint="l2", subset_sha256="0" * 64)
    root = build.root([*build.arms([50.0], [51.0]), build.trial("natural", 0, 50.0, blocks=1), other])
    with refused(Code.NOT_PAIRED, "0" * 12, other[0]["trial_id"], kind=ResultsConflict, key="subset_sha256"):
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


@pytest.mark.parametrize("sort", LINKS)
@pytest.mark.parametrize("place", ["report", "report/below"])
def test_a_report_in_a_root_goes_through_no_link(build: Build, no_reading: None, sort: str, place: str) -> None:
    root = build.root([])
    link = root / place
    link.parent.mkdir(exist_ok=True)
    LINKS[sort](link)
    before = everything(build.folder)
    for out in (link, link / "deeper", *([None] if place == "report" else [])):
        with refused(Code.WRONG_PLACE, link, "--out", kind=InvalidRequest, file=link, key="--out"):
            analysis.report(root, out)
    assert everything(build.folder) == before


def test_a_report_is_written_over_files_alone(build: Build, irregular: Callable[[Path], None]) -> None:
    """Paths that are not files are kept, as are the targets of links, and nothing of the report is left beside them."""
    out = build.folder / "out"
    out.mkdir()
    irregular(out / "index.html")
    before = {path: path.lstat() for path in out.iterdir()}
    with refused(Code.WRONG_PLACE, out / "index.html", kind=StorageFailure, file=out / "index.html"):
        analysis.report(build.root([]), out)
    assert {path: path.lstat() for path in out.iterdir()} == before


def test_a_report_may_go_where_a_link_outside_of_the_root_leads(build: Build) -> None:
    (build.folder / "real").mkdir()
    (build.folder / "link").symlink_to("real")
    for _ in range(2):  # the second time over an older report
        assert analysis.report(build.root([]), build.folder / "link").is_file()
    assert (build.folder / "real" / "index.html").is_file()
    assert [path for path in (build.folder / "real").iterdir() if path.name.startswith(".")] == []


def test_what_it_leaves_out_meanwhile_is_taken_up_again(build: Build) -> None:
    for root, storage in ((build.root([]), "auto"), (build.folder / "none", "auto"), (build.root([]), "pyarrow")):
        with pd.option_context("mode.string_storage", storage):
            with suppress(InvalidRequest):
                analysis.report(root)
            assert gc.isenabled()
            assert pd.get_option("mode.string_storage") == storage


def test_files_that_the_next_report_does_not_make_are_removed(build: Build) -> None:
    """Only those of an older report, and only files."""
    out = build.folder / "out"
    page = analysis.report(build.root(build.arms([50.0, 51.0], [55.0, 57.0])), out)
    first = {path.name for path in out.iterdir()}
    assert {"figure2.png", "forest.svg", "table7.csv"} <= first
    (out / "mine.txt").write_text("kept")
    (out / "figure2.csv").unlink()
    (out / "figure2.csv").mkdir()
    analysis.report(build.root([build.trial("natural", 0, 50.0)], "other"), out)
    left = {path.name for path in out.iterdir()}
    assert {"mine.txt", "figure2.csv", "index.html", "table7.csv"} <= left
    assert not left & {"figure2.png", "forest.svg"}
    assert "figure2" not in page.read_text()


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1, null]", '["../kept", "kept/", ".", ""]', "[" * 100_000],
    ids=["empty", "object", "values", "paths", "deep"],
)
def test_a_record_of_files_that_is_none_removes_nothing(build: Build, text: str) -> None:
    root = build.root([])
    out = build.folder / "out"
    (out / "kept").mkdir(parents=True)
    (build.folder / "kept").write_text("kept")
    (out / "report-files.json").write_text(text)
    analysis.report(root, out)
    assert (out / "kept").is_dir()
    assert (build.folder / "kept").read_text() == "kept"
