"""The live page beside launches: where it is served, who finds it, and when its server ends."""

import os
import queue
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import Code, InvalidRequest
from jobs.paths import live_directory
from jobs.results import open_store
from orchestrator.launching.request import LaunchRequest
from orchestrator.live import beside, serve
from orchestrator.live.beside import page_of_launch, page_of_root
from orchestrator.live.served import ServedPage
from tests.orchestrator.live.roots import Sweep
from tests.support import refused

ASKED = LaunchRequest(ui=True)


@pytest.fixture
def root(tmp_path: Path) -> str:
    store = open_store(tmp_path / "a root")
    Sweep(store)
    return store.uri


@pytest.fixture(autouse=True)
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The servers that a test starts; none stays."""
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    yield started
    for server in started:
        server.kill()
        server.wait()


def page_of(root: str, request: LaunchRequest) -> AbstractContextManager[Callable[[], str]]:
    return page_of_launch(root, request, pytest.fail)


def test_a_launch_that_does_not_ask_prints_the_command(root: str, servers: list[subprocess.Popen[bytes]]) -> None:
    with page_of(root, LaunchRequest()) as live_page:
        assert live_page() == f"deltasweep ui --results '{root}'"
    assert page_of_root(root, "a root") == "deltasweep ui --results 'a root'"
    assert servers == []


def test_launches_of_a_root_share_one_page_which_ends_when_nobody_needs_it(
    root: str, monkeypatch: pytest.MonkeyPatch, servers: list[subprocess.Popen[bytes]]
) -> None:
    monkeypatch.setattr(beside, "LINGER_SECONDS", 0)
    with page_of(root, ASKED) as live_page:
        address = live_page()
        with page_of(root, ASKED) as at_once:
            assert at_once() == address, "before the server answers"
        with urllib.request.urlopen(address, timeout=60) as page:  # a connection waits for the server
            assert "A study &lt;b&gt;for&lt;/b&gt; a test" in page.read().decode()
        assert address.startswith("http://127.0.0.1:")
        with page_of(root, ASKED) as other, page_of(root, LaunchRequest()) as third:
            assert (other(), third(), page_of_root(root, "here")) == (address, address, address)
        (server,) = servers
        assert os.getsid(server.pid) == server.pid, "Ctrl-C in the launch's terminal is not for the page"
        time.sleep(2 * serve._ASK_SECONDS)
        assert server.poll() is None, "a launch needs it"
    assert server.wait(60) == 0
    assert page_of_root(root, "here") == "deltasweep ui --results here"
    assert [file.suffix for file in sorted(live_directory().iterdir())] == [".begin", ".lock", ".log"]


def test_a_viewer_keeps_the_page(
    root: str, monkeypatch: pytest.MonkeyPatch, servers: list[subprocess.Popen[bytes]]
) -> None:
    monkeypatch.setattr(beside, "LINGER_SECONDS", 0)
    with page_of(root, ASKED) as live_page:
        address = live_page()
        updates = urllib.request.urlopen(address.replace("/?", "/events?"), timeout=60)
        assert updates.readline().startswith(b"retry")
    (server,) = servers
    time.sleep(2 * serve._ASK_SECONDS)
    assert server.poll() is None
    updates.close()
    assert server.wait(60) == 0


def test_nobody_takes_over_an_address_that_no_longer_answers(root: str) -> None:
    """A server that was killed, whose port another program has now, or another page."""
    served = ServedPage(root)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    served._make_folder()
    for stale in (f"http://127.0.0.1:{port}/?token=x", "http://[", "", "http://127.0.0.1:99999/?token=x", "\0"):
        served._address.write_text(stale)
        assert page_of_root(root, "here") == "deltasweep ui --results here"
    with page_of(root, ASKED) as live_page:
        address = live_page()
        with urllib.request.urlopen(address, timeout=60):
            pass
        other = address[: address.index("=")] + "=another"
        served._address.write_text(other)
        assert page_of_root(root, "here") == "deltasweep ui --results here"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(other, timeout=60)


def test_the_address_is_for_this_user_only(root: str) -> None:
    served = ServedPage(root)
    with served.announced("http://127.0.0.1:1/?token=x"):
        assert served._address.stat().st_mode & 0o777 == 0o600
        served._address.write_text("of another server")
    assert served._address.read_text() == "of another server", "a server removes only its own"


def test_a_launch_that_was_killed_needs_no_page(root: str) -> None:
    served = ServedPage(root)
    assert not served.is_needed()
    code = (
        "import sys, time\nfrom orchestrator.live.served import ServedPage\n"
        "with ServedPage(sys.argv[1]).needed():\n    print(flush=True)\n    time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, root], stdout=subprocess.PIPE) as launch:
        assert launch.stdout is not None
        assert launch.stdout.readline() == b"\n"
        assert served.is_needed()
        assert not ServedPage(f"{root}-other").is_needed()
        launch.send_signal(signal.SIGKILL)
        launch.wait(60)
    assert not served.is_needed()


def test_a_launch_goes_on_where_no_page_can_be_served(root: str) -> None:
    live_directory().parent.mkdir(parents=True, exist_ok=True)
    live_directory().write_text("a file in the way")
    with page_of(root, ASKED) as live_page:
        said = live_page()
    assert said.startswith(f"deltasweep ui --results '{root}' (no page is served: ")
    assert [word for word in (str(live_directory()), "$DELTASWEEP_HOME", "--no-ui") if word not in said] == []


def test_an_address_that_was_asked_for_is_told_by_a_quiet_launch(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "_serve", lambda *_: "http://127.0.0.1:1/?token=x")
    told: list[str] = []
    for request, quiet in ((ASKED, True), (ASKED, False), (LaunchRequest(), True)):
        with page_of_launch(root, request, told.append, quiet=quiet) as live_page:
            live_page()
    assert told == ["Live page: http://127.0.0.1:1/?token=x"]


def test_a_server_that_fails_is_told(root: str, tmp_path: Path) -> None:
    told: queue.Queue[str] = queue.Queue()
    with page_of_launch(f"{root}\0", ASKED, told.put) as live_page:
        live_page()
        line = told.get(timeout=60)
    assert line.startswith("Warning: the live page has ended: ")
    assert str(live_directory()) in line


def test_the_usual_port_or_a_free_one() -> None:
    with serve.place().listening as first, serve.place().listening as second:
        assert first.getsockname()[1] != second.getsockname()[1]
        taken = second.getsockname()[1]
        with refused(Code.WRONG_VALUE, taken, kind=InvalidRequest, key="--port"):
            serve.place(port=taken)
    with refused(Code.WRONG_VALUE, "192.0.2.1", kind=InvalidRequest, key="--host"):
        serve.place("192.0.2.1")
