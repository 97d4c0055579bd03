"""The watcher of spot notices against metadata servers on loopback."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.errors import Code
from orchestrator.spot_watcher import CLOUDS, NoMetadata, aws_notice, gcp_notice, main, watch
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
    """It says once that there is no answer, and hears the notice that comes afterwards."""
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
    assert capsys.readouterr().out.count("no answer") == 1


def test_aws_drains_within_its_two_minutes() -> None:
    """Ten of 120 s are for hearing of it and for telling Ray."""
    assert CLOUDS["aws"].deadline_seconds == 110
    assert CLOUDS["gcp"].deadline_seconds < 30


def test_the_notice_leads_to_a_drain(metadata: Metadata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is called, by a stand-in for the command ``ray``; the test hosts call the real one."""
    called = tmp_path / "called"
    ray = tmp_path / "ray"
    ray.write_text(f'#!/bin/sh\nfor word; do echo "$word"; done > {called}.new; mv {called}.new {called}\n')
    ray.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("orchestrator.spot_watcher.node_of", lambda address, ip: f"node-at-{ip}")
    monkeypatch.setattr("orchestrator.spot_watcher._AFTERWARDS_SECONDS", 0)
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


def test_the_watcher_is_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.spot_watcher", "--cloud", "azure"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "invalid choice: 'azure'" in done.stderr
