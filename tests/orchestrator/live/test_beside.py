"""The live page beside launches: where it is served, who finds it, and when its server ends."""

import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
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
from orchestrator.live.own_folder import own_folder
from orchestrator.live.served import ServedPage, _answers
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
    return page_of_launch(root, request, only_the_end)


def only_the_end(line: str) -> None:
    """Be told nothing but that the test has killed the server."""
    assert f"signal {signal.SIGKILL.value}" in line


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary directory, also of processes that a test starts."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def take(folder: Path) -> None:
    """Make a folder that this user cannot write, or that belongs to another one."""
    folder.mkdir(parents=True)
    if os.getuid() == 0:
        os.chown(folder, 12345, 12345)
    else:
        folder.chmod(0o500)


def waits_for(address: str, root: str) -> None:
    """Wait until the address is announced."""
    until = time.monotonic() + 60
    while page_of_root(root, "here") != address:
        assert time.monotonic() < until
        time.sleep(0.1)


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
    file = served._file("address", make=True)
    for stale in (f"http://127.0.0.1:{port}/?token=x", "http://[", "", "http://127.0.0.1:99999/?token=x", "\0"):
        file.write_text(stale)
        assert page_of_root(root, "here") == "deltasweep ui --results here"
    with page_of(root, ASKED) as live_page:
        address = live_page()
        with urllib.request.urlopen(address, timeout=60):
            pass
        other = address[: address.index("=")] + "=another"
        assert not _answers(other)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(other, timeout=60)


def test_the_address_is_for_this_user_only(root: str) -> None:
    served = ServedPage(root)
    with served.announced("http://127.0.0.1:1/?token=x"):
        file = served._file("address")
        assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        file.write_text("of another server")
    assert file.read_text() == "of another server", "a server removes only its own"


def test_an_address_is_not_written_into_what_another_process_left(root: str) -> None:
    """One with the same number, killed or in another container."""
    served = ServedPage(root)
    left = served._file("address", make=True).with_suffix(f".{os.getpid()}")
    left.touch(0o644)
    with served.announced("http://127.0.0.1:1/?token=x"):
        assert served._file("address").stat().st_mode & 0o777 == 0o600
    assert left.read_text() == ""


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


def test_a_page_is_announced_again_after_another_one(root: str) -> None:
    """`deltasweep ui` takes its place, and removes it at its end, or cannot if it is killed."""
    with page_of(root, ASKED) as live_page:
        address, other = live_page(), "http://127.0.0.1:1/?token=x"
        with urllib.request.urlopen(address, timeout=60):
            pass
        with ServedPage(root).announced(other):
            pass
        waits_for(address, root)
        ServedPage(root).announce(other)
        waits_for(address, root)


def test_the_page_needs_no_home_that_can_be_written(root: str, temporary: Path) -> None:
    take(live_directory())
    with page_of(root, ASKED) as live_page:
        address = live_page()
        with urllib.request.urlopen(address, timeout=60):
            pass
        assert page_of_root(root, "here") == address
        waits_for(address, root)
    own = temporary / f"deltasweep-{os.getuid()}"
    assert [folder.stat().st_mode & 0o777 for folder in (own, own / "live")] == [0o700, 0o700]
    assert list(live_directory().iterdir()) == []


def test_a_home_of_a_user_that_this_machine_does_not_have(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTASWEEP_HOME", "~nobody-of-this-name/home")
    assert own_folder(make=True) == own_folder() == temporary / f"deltasweep-{os.getuid()}" / "live"


@pytest.mark.parametrize("planted", ["a link", "a link to live", "a file", "a folder of others", "a folder for all"])
def test_what_others_have_planted_is_not_used(root: str, temporary: Path, planted: str) -> None:
    """A folder in the temporary directory that is not this user's own, as the only one that could be used."""
    take(live_directory())
    own, elsewhere = temporary / f"deltasweep-{os.getuid()}", temporary / "elsewhere"
    elsewhere.mkdir()
    match planted:
        case "a link":
            own.symlink_to(elsewhere)
        case "a link to live":
            own.mkdir(mode=0o700)
            (own / "live").symlink_to(elsewhere)
        case "a file":
            own.write_text("")
        case "a folder of others":
            take(own)
        case _:
            own.mkdir()
            own.chmod(0o777)
    with page_of(root, ASKED) as live_page:
        said = live_page()
    assert said.startswith(f"deltasweep ui --results '{root}' (no page is served: ")
    assert [word for word in (str(own), "$DELTASWEEP_HOME", "--no-ui") if word not in said] == []
    assert list(elsewhere.iterdir()) == []
    assert page_of_root(root, "here") == "deltasweep ui --results here"


def test_a_machine_that_starts_no_process_is_not_told_to_change_its_home(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", full)
    with page_of(root, ASKED) as live_page:
        said = live_page()
    assert said.startswith(f"deltasweep ui --results '{root}' (no page is served: Resource temporarily unavailable")
    assert "DELTASWEEP_HOME" not in said


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


def test_a_server_that_was_killed_is_told(root: str, servers: list[subprocess.Popen[bytes]]) -> None:
    told: queue.Queue[str] = queue.Queue()
    with page_of_launch(root, ASKED, told.put) as live_page:
        live_page()
        servers[0].kill()
        line = told.get(timeout=60)
    assert line.startswith("Warning: the live page has ended: signal 9 ")
    assert f"deltasweep ui --results '{root}'" in line


def test_the_usual_port_or_a_free_one() -> None:
    with serve.place().listening as first, serve.place().listening as second:
        assert first.getsockname()[1] != second.getsockname()[1]
        taken = second.getsockname()[1]
        with refused(Code.WRONG_VALUE, taken, kind=InvalidRequest, key="--port"):
            serve.place(port=taken)
    with refused(Code.WRONG_VALUE, "192.0.2.1", kind=InvalidRequest, key="--host"):
        serve.place("192.0.2.1")
