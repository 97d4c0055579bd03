"""Downloads from a mirror on loopback: resumed, truncated, refused or forged, with no partial target left."""

import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import Code, DamagedFile, InvalidRequest, MissingData, StorageFailure
from jobs.system import download as downloads
from jobs.system.download import download
from tests.jobs.mirrors import mirror
from tests.machine import with_dev_full
from tests.support import refused

BODY = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY).hexdigest()


def silent(received: int, total: int | None) -> None:
    pass


def get(target: Path, *urls: str, sha256: str | None = SHA256, md5: str | None = None, size: int | None = None) -> None:
    download(urls, target, sha256=sha256, md5=md5, size=size, on_progress=silent)


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "files" / "weights.bin"


# --- successful downloads ---


@pytest.mark.parametrize("digests", [{}, {"sha256": None, "md5": MD5}, {"size": len(BODY)}, {"sha256": None}])
def test_a_file_is_put_in_its_place(target: Path, digests: dict[str, Any]) -> None:
    with mirror(files={"weights.bin": BODY}) as server:
        get(target, f"{server.url}/weights.bin", **digests)
    assert target.read_bytes() == BODY
    assert left_behind(target.parent) == ["weights.bin"]


def test_progress_goes_up_to_the_whole(target: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    with mirror(files={"weights.bin": BODY}) as server:
        url = f"{server.url}/weights.bin"
        download([url], target, sha256=SHA256, on_progress=lambda *now: seen.append(now))
    assert seen[0] == (0, len(BODY))
    assert seen[-1] == (len(BODY), len(BODY))
    assert [here for here, _ in seen] == sorted(here for here, _ in seen)


def test_a_file_url_is_a_mirror_too(target: Path, tmp_path: Path) -> None:
    (tmp_path / "original").write_bytes(BODY)
    get(target, (tmp_path / "original").as_uri())
    assert target.read_bytes() == BODY


def test_what_is_there_is_not_fetched_again(target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(BODY)
    with mirror(files={"weights.bin": BODY}) as server:
        get(target, f"{server.url}/weights.bin")
    assert server.asked == []


def test_a_swapped_file_is_replaced(target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(BODY[::-1])
    with mirror(files={"weights.bin": BODY}) as server:
        get(target, f"{server.url}/weights.bin")
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("size", [None, len(BODY)])
def test_a_file_that_cannot_be_verified_is_replaced(size: int | None, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(BODY[::-1])
    with mirror(files={"weights.bin": BODY}) as server:
        get(target, f"{server.url}/weights.bin", sha256=None, size=size)
    assert target.read_bytes() == BODY


def test_the_next_mirror_is_asked_when_one_fails(target: Path) -> None:
    with mirror(status=503) as broken, mirror(files={"weights.bin": BODY}) as server:
        get(target, f"{broken.url}/weights.bin", f"{server.url}/weights.bin")
    assert len(broken.asked) == 1
    assert target.read_bytes() == BODY


def test_the_next_mirror_is_asked_when_one_has_another_file(target: Path) -> None:
    with mirror(files={"weights.bin": b"<html>"}) as other, mirror(files={"weights.bin": BODY}) as server:
        get(target, f"{other.url}/weights.bin", f"{server.url}/weights.bin")
    assert target.read_bytes() == BODY
    assert left_behind(target.parent) == ["weights.bin"]


# --- resuming ---


def part_of(target: Path, content: bytes) -> Path:
    target.parent.mkdir(exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    part.write_bytes(content)
    return part


def test_an_earlier_call_s_beginning_is_continued(target: Path) -> None:
    part_of(target, BODY[:1000])
    with mirror(files={"weights.bin": BODY}) as server:
        get(target, f"{server.url}/weights.bin")
    assert server.ranges_asked == ["bytes=1000-"]
    assert target.read_bytes() == BODY


def test_a_connection_that_breaks_is_taken_up_again(target: Path) -> None:
    with mirror(files={"weights.bin": BODY}, cut_after=100_000) as server:
        get(target, f"{server.url}/weights.bin")
    assert server.ranges_asked == [None, *(f"bytes={n}-" for n in range(100_000, len(BODY), 100_000))]
    assert target.read_bytes() == BODY


def test_a_mirror_that_cannot_continue_gives_the_whole(target: Path) -> None:
    part_of(target, BODY[:1000])
    with mirror(files={"weights.bin": BODY}, ranges=False) as server:
        get(target, f"{server.url}/weights.bin")
    assert target.read_bytes() == BODY


def test_an_answer_that_cannot_be_the_file_costs_nothing_that_has_come(target: Path) -> None:
    part = part_of(target, BODY[:1000])
    with (
        mirror(files={"weights.bin": b"<html>please log in"}, ranges=False) as portal,
        refused(Code.NO_DOWNLOAD, "19 bytes", "512,000", kind=MissingData, file=target),
    ):
        get(target, f"{portal.url}/weights.bin", size=len(BODY))
    assert part.read_bytes() == BODY[:1000]


def test_without_a_length_the_size_says_whether_all_has_come(target: Path) -> None:
    with (
        mirror(files={"weights.bin": BODY}, length=False, cut_after=1000, ranges=False) as server,
        refused(Code.NO_DOWNLOAD, "1,000 of 512,000 bytes", kind=MissingData, file=target),
    ):
        get(target, f"{server.url}/weights.bin", size=len(BODY))
    assert not target.exists()


def test_a_beginning_of_another_file_is_begun_anew(target: Path) -> None:
    part_of(target, b"x" * 1000)
    with mirror(files={"weights.bin": BODY}) as server:
        get(target, f"{server.url}/weights.bin")
    assert server.ranges_asked == ["bytes=1000-", None]
    assert target.read_bytes() == BODY


def test_a_beginning_longer_than_the_file_is_begun_anew(target: Path) -> None:
    part_of(target, BODY + b"x")
    with mirror(files={"weights.bin": BODY}) as server:
        get(target, f"{server.url}/weights.bin")
    assert target.read_bytes() == BODY


def test_a_part_that_is_whole_is_not_fetched_again(target: Path) -> None:
    """A process may end between the last byte and the renaming."""
    part_of(target, BODY)
    with mirror(files={"weights.bin": BODY}) as server:
        get(target, f"{server.url}/weights.bin")
    assert server.ranges_asked == [f"bytes={len(BODY)}-"]
    assert target.read_bytes() == BODY


def test_without_a_digest_nothing_of_an_earlier_call_is_trusted(target: Path) -> None:
    part_of(target, b"x" * 1000)
    with mirror(files={"weights.bin": BODY}) as server:
        get(target, f"{server.url}/weights.bin", sha256=None)
    assert server.ranges_asked == [None]
    assert target.read_bytes() == BODY


# --- failures: one error, and no target ---


def test_without_a_digest_nothing_of_a_broken_download_is_kept(target: Path) -> None:
    """It could not be resumed, and the message does not offer to."""
    lost = refused(Code.NO_DOWNLOAD, "from the start", kind=MissingData, file=target)
    with mirror(files={"weights.bin": BODY}, cut_after=1000) as server, lost:
        get(target, f"{server.url}/weights.bin", sha256=None)
    assert left_behind(target.parent) == []


def test_not_found(target: Path) -> None:
    with mirror() as server, refused(Code.NO_DOWNLOAD, "/weights.bin: HTTP 404 Not Found\n", kind=MissingData):
        get(target, f"{server.url}/weights.bin")
    assert left_behind(target.parent) == []


def test_every_mirror_s_reason_is_told(target: Path) -> None:
    with mirror() as one, mirror(status=500) as two, pytest.raises(MissingData) as raised:
        get(target, f"{one.url}/weights.bin", f"{two.url}/weights.bin")
    assert f"- {one.url}/weights.bin: HTTP 404" in str(raised.value)
    assert f"- {two.url}/weights.bin: HTTP 500" in str(raised.value)
    assert (raised.value.code, raised.value.place.file) == (Code.NO_DOWNLOAD, str(target))
    urls = [f"{server.url}/weights.bin" for server in (one, two)]
    assert [(mistake.code, mistake.place.file) for mistake in raised.value.mistakes] == [
        (Code.NO_DOWNLOAD, url) for url in urls
    ]


def test_nobody_answers(target: Path) -> None:
    with mirror() as server:
        gone = server.url
    with refused(Code.NO_DOWNLOAD, f"{gone}/weights.bin", "refused", kind=MissingData, file=target):
        get(target, f"{gone}/weights.bin")


def test_cut_off_for_good_is_kept_and_continued_later(target: Path) -> None:
    with mirror(files={"weights.bin": BODY}, cut_after=50_000) as server:
        with refused(Code.NO_DOWNLOAD, "10 times", kind=MissingData, file=target):
            get(target, f"{server.url}/weights.bin")
        assert left_behind(target.parent) == ["weights.bin.part"]
        server.cut_after = None
        get(target, f"{server.url}/weights.bin")
    assert server.ranges_asked[-1] == "bytes=500000-"
    assert target.read_bytes() == BODY


def test_nothing_comes_at_all(target: Path) -> None:
    with (
        mirror(files={"weights.bin": BODY}, cut_after=0) as server,
        refused(Code.NO_DOWNLOAD, "0 of 512,000 bytes", kind=MissingData, file=target),
    ):
        get(target, f"{server.url}/weights.bin")
    assert not target.exists()


@pytest.mark.parametrize(
    ("digests", "values"),
    [
        ({}, (f"sha256 {SHA256}", hashlib.sha256(BODY[1:]).hexdigest())),
        ({"sha256": None, "md5": MD5}, (f"md5 {MD5}", hashlib.md5(BODY[1:]).hexdigest())),
        ({"sha256": None, "size": len(BODY)}, ("512,000 bytes", "511,999")),
    ],
)
def test_another_file_is_refused(target: Path, digests: dict[str, Any], values: tuple[str, ...]) -> None:
    other = refused(Code.DAMAGED_DOWNLOAD, *values, kind=DamagedFile, file=target)
    with mirror(files={"weights.bin": BODY[1:]}) as server, other:
        get(target, f"{server.url}/weights.bin", **digests)
    assert left_behind(target.parent) == []


def test_a_failed_replacement_leaves_what_stood_there(target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"the user's own")
    with mirror() as server, refused(Code.NO_DOWNLOAD, kind=MissingData, file=target):
        get(target, f"{server.url}/weights.bin")
    assert target.read_bytes() == b"the user's own"


@pytest.mark.parametrize("url", ["ftp://a/b", "/local/path", "s3://bucket/key"])
def test_other_kinds_of_url_are_refused(target: Path, url: str) -> None:
    with refused(Code.WRONG_PLACE, "https, http, file", url, kind=InvalidRequest, file=url):
        get(target, url)


def test_a_disk_too_small_is_told_before_anything_is_written(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(target.anchor)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with (
        mirror(files={"weights.bin": BODY}) as server,
        refused(Code.STORAGE, "512,000", "1,000", "$DELTASWEEP_HOME", kind=StorageFailure, file=target),
    ):
        get(target, f"{server.url}/weights.bin")
    assert left_behind(target.parent) == []


@with_dev_full
def test_a_disk_that_fills_up(target: Path) -> None:
    """Writing itself fails, as on a disk that another process fills meanwhile."""
    target.parent.mkdir()
    target.with_name(f"{target.name}.part").symlink_to("/dev/full")
    with (
        mirror(files={"weights.bin": BODY}) as server,
        refused(Code.STORAGE, target, "No space left on device", kind=StorageFailure, file=target),
    ):
        get(target, f"{server.url}/weights.bin")
    assert not target.exists()


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "files").write_bytes(b"")
    target = tmp_path / "files" / "weights.bin"
    with refused(Code.STORAGE, target, kind=StorageFailure, file=target):
        get(target, "http://127.0.0.1:9/weights.bin")


def test_two_at_once_download_once(target: Path) -> None:
    with mirror(files={"weights.bin": BODY}) as server:
        threads = [threading.Thread(target=get, args=(target, f"{server.url}/weights.bin")) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.asked) == 1
    assert target.read_bytes() == BODY


# --- mirrors that misreport, or never end ---


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce the limits of half a minute and twenty gigabytes for tests."""
    monkeypatch.setattr(downloads, "_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(downloads, "_PACE_SECONDS", 0.5)
    monkeypatch.setattr(downloads, "_MOST_UNSAID", 10_000_000)


def not_got(code: Code, target: Path, *values: object, url: str, **known: Any) -> None:
    kind = MissingData if code is Code.NO_DOWNLOAD else DamagedFile
    with refused(code, url, *values, kind=kind, file=target):
        get(target, url, **known)
    assert not target.exists()


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("known", [{"size": len(BODY)}, {"size": len(BODY), "sha256": None}])
def test_more_than_the_known_size_is_not_taken(target: Path, length: bool, known: dict[str, Any]) -> None:
    announced = "99999999999" if length else None
    served = {"files": {"weights.bin": BODY}, "length": False, "announced": announced, "endless": BODY}
    with mirror(**served) as server:
        url = f"{server.url}/weights.bin"
        not_got(Code.DAMAGED_DOWNLOAD, target, "should have 512,000 bytes", "or more", url=url, **known)
        assert server.sent < 40_000_000, "buffers of this machine's network, and no more"
    assert left_behind(target.parent) == []


def test_an_endless_file_of_unknown_size_is_given_up(target: Path, impatient: None) -> None:
    served = {"files": {"weights.bin": BODY}, "length": False, "endless": BODY}
    with mirror(**served) as server:
        not_got(Code.NO_DOWNLOAD, target, "10,000,000", url=f"{server.url}/weights.bin", sha256=None)
    assert left_behind(target.parent) == []


def test_a_mirror_that_drips_is_left_for_the_next(target: Path, impatient: None) -> None:
    served = {"files": {"weights.bin": b""}, "announced": str(len(BODY)), "endless": b"x", "pause": 0.02}
    with mirror(**served) as slow, mirror(files={"weights.bin": BODY}) as server:
        not_got(Code.NO_DOWNLOAD, target, "bytes per second", url=f"{slow.url}/weights.bin")
        get(target, f"{slow.url}/weights.bin", f"{server.url}/weights.bin")
    assert target.read_bytes() == BODY


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nX-Header: ",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0;",
        b"",
    ],
    ids=["a header", "what comes before an answer", "a chunk's length", "a status"],
)
def test_an_answer_that_drips_is_given_up(raw: bytes, target: Path, impatient: None) -> None:
    with mirror(raw=raw, endless=b"x", pause=0.02) as server:
        not_got(Code.NO_DOWNLOAD, target, "within 0.5 s", url=f"{server.url}/weights.bin")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe\x00",
        b"<html>",
        b"HTTP/1.1 999999 Hm\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 " + b"O" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:port/\r\n\r\n",
        b"HTTP/1.1 302 Found\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 7-9/9\r\nContent-Length: 2\r\n\r\nab",
    ],
)
def test_answers_that_are_none(raw: bytes, target: Path) -> None:
    with mirror(raw=raw) as server, pytest.raises((MissingData, DamagedFile), match="could not be downloaded"):
        get(target, f"{server.url}/weights.bin")
    assert not target.exists()


@pytest.mark.parametrize("announced", ["-5", "\xb2", "1" * 5000, "5, 5", "0x10", ""])
def test_a_length_that_is_none_is_not_believed(announced: str, target: Path) -> None:
    with mirror(files={"weights.bin": BODY}, announced=announced) as server:
        get(target, f"{server.url}/weights.bin")
    assert target.read_bytes() == BODY


@pytest.mark.parametrize(
    "place", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x", "gopher://x/", "/weights.bin"]
)
def test_redirections_lead_to_no_other_kind_of_place(place: str, target: Path) -> None:
    with mirror(redirect=place, files={}) as server:
        not_got(Code.NO_DOWNLOAD, target, url=f"{server.url}/start")
    assert left_behind(target.parent) == []


def test_what_comes_with_a_redirection_is_not_read(target: Path, impatient: None) -> None:
    with (
        mirror(files={"weights.bin": BODY}) as server,
        mirror(redirect=f"{server.url}/weights.bin", endless=b"x" * 1000) as first,
    ):
        get(target, f"{first.url}/start")
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_a_file_url_of_what_is_no_regular_file(make: Callable[[Path], None], target: Path, tmp_path: Path) -> None:
    make(tmp_path / "original")
    not_got(Code.NO_DOWNLOAD, target, url=(tmp_path / "original").as_uri())


@pytest.mark.parametrize("url", ["http://[::1/x", "http://\u00e4/x", "http://h/\ud800", "https://h/\u00e4.pt"])
def test_urls_that_are_none(url: str, target: Path) -> None:
    with refused(Code.WRONG_PLACE, "ASCII", kind=InvalidRequest):
        get(target, url)
