"""The watcher for spot notices, with metadata servers on loopback."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from ray.exceptions import RpcError

from jobs.errors import Code
from orchestrator.nodes import spot_watcher
from orchestrator.nodes.spot_watcher import CLOUDS, NoMetadata, aws_notice, gcp_notice, main, watch
from tests.jobs.mirrors import mirror
from tests.orchestrator.metadata import NOTICE, Metadata
from tests.support import refused


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    server = Metadata()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_aws_has_no_notice_until_it_has_one(metadata: Metadata) -> None:
    assert aws_notice(metadata.address) is None
    metadata.action = NOTICE
    assert aws_notice(metadata.address) == "terminate at 2026-11-22T15:00:00Z"


def test_a_notice_that_cannot_be_read_is_a_notice(metadata: Metadata) -> None:
    metadata.action = "soon"
    assert aws_notice(metadata.address) == "soon"


def test_google_says_true(metadata: Metadata) -> None:
    assert gcp_notice(metadata.address) is None
    metadata.preempted = "TRUE\n"
    assert gcp_notice(metadata.address) == "preempted"


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_broken_server_is_not_silence(metadata: Metadata, cloud: str) -> None:
    metadata.broken = True
    with refused(Code.INTERNAL, "503", metadata.address, kind=NoMetadata):
        CLOUDS[cloud].notice(metadata.address)


def test_watching_outlasts_a_server_that_does_not_answer(
    metadata: Metadata, capsys: pytest.CaptureFixture[str]
) -> None:
    """The missing answer is reported once, and a later notice is still received."""
    metadata.broken = True

    def mend() -> None:
        while len(metadata.requests) < 5:
            time.sleep(0.01)
        metadata.action = NOTICE
        metadata.broken = False

    mending = threading.Thread(target=mend)
    mending.start()
    assert watch(lambda: aws_notice(metadata.address), 0.01).startswith("terminate")
    mending.join()
    assert capsys.readouterr().out.count("no response") == 1


OK = b"HTTP/1.1 200 OK\r\n"


def whole(body: bytes) -> bytes:
    return OK + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


ANSWERS: dict[str, tuple[bytes, bytes]] = {
    "500": (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", b""),
    "nothing, and closes": (b"", b""),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n", b""),
    "HTML": (whole(b"<!DOCTYPE html><html>Sign in</html>"), b""),
    "a number": (whole(b"5"), b""),
    "a list": (whole(b"[]"), b""),
    "null": (whole(b"null"), b""),
    "another mapping": (whole(b'{"error": "no"}'), b""),
    "an action that is none": (whole(b'{"action": ["terminate"]}'), b""),
    "JSON without end": (whole(b"[" * 60_000), b""),
    "bytes": (whole(b"\xff\xfe\x00\x01"), b""),
    "a terminal's escapes": (whole(b"\x1b[2J\x1b]0;x\x07"), b""),
    "a huge body": (whole(b"x" * 10_000_000), b""),
    "a body without end": (OK + b"\r\n", b"x" * 10_000),
    "a body that drips": (OK + b"\r\n", b"x"),
    "a header that drips": (OK + b"X: ", b"x"),
    "many headers": (OK + b"X: y\r\n" * 500 + b"\r\n", b""),
    "cut off": (OK + b"Content-Length: 99\r\n\r\n{", b""),
    "a chunk that is none": (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b""),
    "a redirection": (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\n\r\n", b"x"),
    "a redirection to a file": (b"HTTP/1.1 301 Moved\r\nLocation: file:///etc/hostname\r\n\r\n", b""),
    "a redirection to itself": (b"HTTP/1.1 307 Again\r\nLocation: /latest\r\nContent-Length: 0\r\n\r\n", b""),
}


def _notice_of(url: str) -> str | None:
    """Return the notice as if the server had given a token and then answered this way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.nodes.spot_watcher._token", lambda server: "token")
        return aws_notice(url)


@pytest.mark.parametrize("place", ["token", "notice"])
@pytest.mark.parametrize("kind", ANSWERS)
def test_watching_outlasts_any_answer(
    kind: str, place: str, metadata: Metadata, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind of fault is reported once, and a later notice is still received.

    Only endless answers use up the whole time limit; on a busy machine the others take more than a moment.
    """
    monkeypatch.setattr("orchestrator.nodes.spot_watcher._REQUEST_SECONDS", 0.2 if kind.endswith("drips") else 60)
    raw, endless = ANSWERS[kind]
    asked = 0
    with mirror(raw=raw, endless=endless, pause=0.01) as bad:

        def ask() -> str | None:
            nonlocal asked
            asked += 1
            if asked > 4:
                monkeypatch.setattr("orchestrator.nodes.spot_watcher._REQUEST_SECONDS", 60)
                metadata.action = NOTICE
                return aws_notice(metadata.address)
            if place == "notice":
                return _notice_of(bad.url)
            return aws_notice(bad.url)

        found = watch(ask, 0.001)
    assert found.startswith("terminate")
    said = capsys.readouterr().out
    assert said.count("\n") in ((1,) if place == "notice" else (0, 1)), said
    assert len(said) < 1000
    assert "\x1b" not in said


@pytest.mark.parametrize("kind", ANSWERS)
def test_google_s_answers_that_are_none(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.nodes.spot_watcher._REQUEST_SECONDS", 0.2)
    raw, endless = ANSWERS[kind]
    with mirror(raw=raw, endless=endless, pause=0.01) as bad, suppress(NoMetadata):
        assert gcp_notice(bad.url) is None


@pytest.mark.parametrize(
    "address",
    ["http://255.255.255.255", "http://127.0.0.1:1", "http://[::1", "http://127.0.0.1:port", "http://no.invalid"],
)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_server_that_is_nowhere(address: str, cloud: str) -> None:
    with refused(Code.INTERNAL, address, kind=NoMetadata):
        CLOUDS[cloud].notice(address)


def test_a_fault_of_our_own_does_not_end_the_watch(capsys: pytest.CaptureFixture[str]) -> None:
    answers: Iterator[Exception | str] = iter(
        [RuntimeError("bug"), RuntimeError("bug"), NoMetadata("a", "silent"), KeyError("x"), "taken"]
    )

    def ask() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert watch(ask, 0) == "taken"
    said = capsys.readouterr().out
    assert [said.count(word) for word in ("bug", "silent", "KeyError")] == [1, 1, 1]


def test_aws_drains_within_its_two_minutes() -> None:
    """Ten of the 120 s are for receiving the notice and telling Ray."""
    assert CLOUDS["aws"].deadline_seconds == 110
    assert CLOUDS["gcp"].deadline_seconds < 30


def test_the_notice_leads_to_a_drain(metadata: Metadata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Record the call with a fake ``ray`` command; the tests on the test hosts call the real one."""
    called = tmp_path / "called"
    ray = tmp_path / "ray"
    ray.write_text(f'#!/bin/sh\nfor word; do echo "$word"; done > {called}.new; mv {called}.new {called}\n')
    ray.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("orchestrator.nodes.spot_watcher.node_of", lambda address, ip: f"node-at-{ip}")
    monkeypatch.setattr("orchestrator.nodes.spot_watcher._AFTERWARDS_SECONDS", 0)
    metadata.action = NOTICE
    main(
        [
            *("--cloud", "aws", "--address", "10.0.0.1:6379", "--node-ip", "10.0.0.2", "--server", metadata.address),
            "--poll-seconds",
            "0.01",
        ]
    )
    words = called.read_text().splitlines()
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert words[0] == "drain-node"
    assert options["--node-id"] == "node-at-10.0.0.2"
    assert options["--address"] == "10.0.0.1:6379"
    assert options["--reason"] == "DRAIN_NODE_REASON_PREEMPTION"
    assert 100 <= int(options["--deadline-remaining-seconds"]) <= 110


class Timer:
    """A clock that advances only while somebody sleeps, or by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def silent(*_: object) -> None:
    raise RpcError("GCS unavailable", rpc_code=14)  # type: ignore[no-untyped-call]  # untyped in Ray


def test_ray_is_asked_again_until_the_machine_is_gone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    timer, lefts = Timer(), list[int]()

    def drain(address: str, node_ip: str, reason: str, left: int) -> None:
        lefts.append(left)
        silent()

    monkeypatch.setattr(spot_watcher, "time", timer)
    monkeypatch.setattr(spot_watcher, "drain", drain)
    assert not spot_watcher._drain_until(timer.now + 110, "10.0.0.1:6379", "10.0.0.2", "taken")
    assert lefts == list(range(110, 0, -2))
    assert "RpcError" in capsys.readouterr().out


def test_a_notice_outlasts_a_silent_ray_and_a_home_that_cannot_be_written(
    metadata: Metadata, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers: Iterator[Callable[..., None]] = iter([*[silent] * 6, lambda *_: None])

    def drain(*given: object) -> None:
        next(answers)(*given)

    def unwritable() -> None:
        raise OSError("Read-only file system")

    monkeypatch.setattr(spot_watcher, "drain", drain)
    monkeypatch.setattr(spot_watcher, "announce_leaving", unwritable)
    monkeypatch.setattr(spot_watcher, "_PAUSE_SECONDS", 0)
    monkeypatch.setattr(spot_watcher, "_AFTERWARDS_SECONDS", 0)
    metadata.action = NOTICE
    main(["--cloud", "aws", "--address", "10.0.0.1:6379", "--node-ip", "10.0.0.2", "--server", metadata.address])
    said = capsys.readouterr().out
    assert said.count("RpcError: ") == 6
    assert "Read-only file system" in said
    assert "drained with" in said


def test_the_watcher_is_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.nodes.spot_watcher", "--cloud", "azure"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "invalid choice: 'azure'" in done.stderr
