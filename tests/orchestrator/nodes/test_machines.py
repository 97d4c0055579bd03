"""Addresses that do not answer and machines with unusable default directories: detected at once, or worked around."""

import errno
import json
import os
import platform
import resource
import signal
import socket
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import ray
import torch

from jobs.errors import Code, InvalidRequest, StorageFailure
from orchestrator.ray_tune import local_ray, reachable, tuner
from orchestrator.ray_tune.local_ray import prepare_machine
from orchestrator.ray_tune.reachable import require_dashboard, require_ray, require_same_ray
from orchestrator.ray_tune.submit import submit
from tests.machine import bound_by_permissions
from tests.orchestrator.support import Command
from tests.support import refused

STUDY = """
name: mini
grid: {source: [fmnist_natural], dataset: [digits], blocks: [0]}
schedule: [{images: [20], epochs: 1, seeds: 1, evaluate_every: 1}]
"""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachable, "CONNECT_SECONDS", 1.0)
    monkeypatch.setattr(reachable, "ANSWER_SECONDS", 1.0)


# --- addresses that answer or not ---


@contextmanager
def nobody() -> Iterator[int]:
    """A port on which nothing listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    yield port


@contextmanager
def silence() -> Iterator[int]:
    """A server that accepts connections but sends nothing, like a hanging process."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def banner() -> Iterator[int]:
    """A server of another protocol that sends first, such as SSH or a database."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            try:
                while True:
                    connection, _ = server.accept()
                    connection.sendall(b"SSH-2.0-OpenSSH_9.7\r\n")
                    connection.close()
            except OSError:
                return

        threading.Thread(target=greet, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    status = 404

    def do_GET(self) -> None:  # name required by http.server
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def web_server(status: int = 404) -> Iterator[int]:
    handler = type("Handler", (_Handler,), {"status": status})
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


class _Answering(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def service(self, details: Any) -> Any:
        def answer(_: bytes, context: Any) -> bytes:
            if self._code is not grpc.StatusCode.OK:
                context.abort(self._code, "as the test says")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@contextmanager
def grpc_server(code: grpc.StatusCode) -> Iterator[int]:
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool, handlers=[_Answering(code)])
        port: int = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield port
        server.stop(None).wait()


NO_RAY: list[Callable[[], Any]] = [nobody, silence, banner, web_server]


@pytest.mark.parametrize("server", NO_RAY)
def test_what_is_no_ray_is_found_out_within_seconds(server: Callable[[], Any]) -> None:
    with (
        server() as port,
        refused(Code.NO_CLUSTER, f"127.0.0.1:{port}", "HOST:6379", kind=InvalidRequest, key="--address"),
    ):
        require_ray(f"127.0.0.1:{port}")


def test_a_host_that_does_not_answer_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall that drops packets."""

    def drop(_: object, seconds: float) -> None:
        assert seconds <= reachable.CONNECT_SECONDS
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", drop)
    with refused(Code.NO_CLUSTER, "10.1.2.3:6379", "timed out", kind=InvalidRequest, key="--address"):
        require_ray("10.1.2.3:6379")


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.OK,
        grpc.StatusCode.UNAUTHENTICATED,  # a token is required: Ray itself reports which one
        grpc.StatusCode.UNIMPLEMENTED,  # a Ray version that no longer has this call
    ],
    ids=lambda code: code.name,
)
def test_a_ray_that_answers_anything_is_one(code: grpc.StatusCode) -> None:
    with grpc_server(code) as port:
        require_ray(f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    "address",
    [
        "garbage",
        "host",
        "host:",
        ":6379",
        "host:port",
        "host:0",
        "host:65536",
        "host:6379:6379",
        "a host:6379",
        "user@host:6379",
        "host:6379/path",
        "redis://host:6379",
        "ray://host:10001",
        "http://host:8265",
        "https://host",
        "",
        "local:1:2",
        "h\N{LATIN SMALL LETTER O WITH DIAERESIS}st\udcff:1",
        f"{'a' * 64}.example:6379",
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with refused(Code.WRONG_VALUE, "HOST:", kind=InvalidRequest, file=address, key="--address"):
        require_ray(address)


def test_auto_is_what_runs_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The address in Ray's file may be of a cluster that has ended."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    # if another Ray cluster runs on this machine, it is used instead
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", list)
    (tmp_path / "ray").mkdir()
    with nobody() as port:
        (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{port}")
        with refused(Code.NO_CLUSTER, "auto", kind=InvalidRequest, key="--address"):
            require_ray("auto")


@pytest.mark.usefixtures("short_tests")
@pytest.mark.parametrize("given", ["option", "variable"])
@pytest.mark.parametrize("server", [nobody, web_server])
def test_a_launch_at_a_dead_address_writes_nothing(
    server: Callable[[], Any], given: str, deltasweep: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("Ray waits for minutes"))
    (deltasweep.folder / "mini.yaml").write_text(STUDY, encoding="utf-8")
    with server() as port:
        address = f"127.0.0.1:{port}"
        if given == "variable":
            monkeypatch.setenv("RAY_ADDRESS", address)
        result = deltasweep(
            "launch", "mini.yaml", "--results", "root", *(["--address", address] if given == "option" else [])
        )
    assert (result.code, result.out, result.message.count("\n")) == (3, "", 0)
    assert address in result.message
    assert not (deltasweep.folder / "root").exists()


def answers(told: bytes | Exception | None) -> Callable[..., bytes | None]:
    """Return the reply of a cluster's head to a request for its versions."""

    def answer(*_: object, **__: object) -> bytes | None:
        if isinstance(told, Exception):
            raise told
        return told

    return answer


def of(ray_version: str, python_version: str) -> bytes:
    return json.dumps({"ray_version": ray_version, "python_version": python_version}).encode()


PYTHON = platform.python_version()


@pytest.mark.usefixtures("short_tests")
@pytest.mark.parametrize(
    ("told", "code", "said"),
    [
        (of("1.2.3", PYTHON), 2, "Ray: 1.2.3"),
        (of(ray.__version__, "3.8.1"), 2, "Python: 3.8.1"),
        (ray.exceptions.AuthenticationError("wrong token"), 3, "wrong token"),
        (ray.exceptions.RpcError("timed out"), 3, "timed out"),  # type: ignore[no-untyped-call]  # untyped in Ray
    ],
    ids=["ray", "python", "token", "silence"],
)
def test_a_launch_at_a_cluster_that_does_not_take_it_writes_nothing(
    told: bytes | Exception, code: int, said: str, deltasweep: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("too late"))
    (deltasweep.folder / "mini.yaml").write_text(STUDY, encoding="utf-8")
    with grpc_server(grpc.StatusCode.OK) as port:
        monkeypatch.setattr("ray._raylet.GcsClient", lambda address: SimpleNamespace(internal_kv_get=answers(told)))
        result = deltasweep("launch", "mini.yaml", "--results", "root", "--address", f"127.0.0.1:{port}")
    assert (result.code, result.out) == (code, "")
    assert said in result.message
    assert not (deltasweep.folder / "root").exists()


@pytest.mark.parametrize("told", [of(ray.__version__, PYTHON), None], ids=["the same", "nothing"])
def test_a_cluster_of_the_same_ray_is_taken(told: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray._raylet.GcsClient", lambda address: SimpleNamespace(internal_kv_get=answers(told)))
    require_same_ray("127.0.0.1:6379")


@pytest.mark.parametrize("server", [nobody, silence, banner])
def test_a_dead_dashboard_is_found_out_within_seconds(server: Callable[[], Any]) -> None:
    with server() as port:
        address = f"http://127.0.0.1:{port}"
        with refused(Code.NO_CLUSTER, address, kind=InvalidRequest, file=address, key="--address"):
            submit(address, "launch", [])


@pytest.mark.parametrize("status", [200, 401, 404, 500])
def test_a_server_that_answers_is_asked_further(status: int) -> None:
    with web_server(status) as port:
        require_dashboard(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("address", ["http://", "http://:8265", "http://[", "https://a b/"])
def test_what_is_no_dashboards_address_is_refused(address: str) -> None:
    with refused(Code.NO_CLUSTER, address, kind=InvalidRequest, file=address, key="--address"):
        require_dashboard(address)


# --- this machine ---


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without Ray's variables, which the test may change."""
    for name in ("RAY_TMPDIR", "TMPDIR", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)
    return monkeypatch


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
@pytest.mark.parametrize("kind", ["long", "file", "nowhere", "no text"])
def test_a_directory_that_ray_cannot_use_is_gone_round(
    kind: str, name: str, machine: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wrong = {
        "long": tmp_path / ("x" * 100),
        "file": tmp_path / "file" / "below",
        "nowhere": Path("/proc/none"),
        "no text": Path(f"/tmp/{tmp_path.name}-\udcff"),
    }[kind]
    (tmp_path / "file").touch()
    machine.setenv(name, str(wrong))
    used = Path(prepare_machine()["_temp_dir"])
    assert used.is_dir()
    assert len(os.fsencode(used.parent / local_ray._SOCKET)) <= local_ray._SOCKET_BYTES


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
def test_a_relative_directory_is_given_in_full(name: str, machine: pytest.MonkeyPatch) -> None:
    """Ray's processes have working directories of their own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        machine.chdir(folder)
        machine.setenv(name, "short")
        assert prepare_machine() == {"_temp_dir": f"{folder}/short/ray"}


def test_the_usual_directory_is_used_where_it_can(machine: pytest.MonkeyPatch, tmp_path_factory: Any) -> None:
    assert prepare_machine() == {}


def test_nowhere_at_all_is_one_message(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(local_ray, "_is_usable", lambda _: False)
    with refused(Code.STORAGE, "RAY_TMPDIR", "/tmp", "/var/tmp", kind=StorageFailure, key="$RAY_TMPDIR"):
        prepare_machine()


@pytest.fixture
def places(machine: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Two directories with short names that replace the machine's shared ones; the first is the usual one."""
    with TemporaryDirectory(dir="/tmp", prefix="ds-") as first, TemporaryDirectory(dir="/tmp", prefix="ds-") as second:
        found = [Path(first), Path(second)]
        machine.setattr(local_ray, "_directories", lambda: found)
        machine.setattr(local_ray, "_keeps_a_token", lambda: True)
        yield found


def test_a_disk_without_room_is_gone_round(machine: pytest.MonkeyPatch, places: list[Path]) -> None:
    machine.setattr(local_ray, "_ROOM_BYTES", 0)
    real = tempfile.TemporaryFile

    def full_at_first(dir: Path) -> Any:
        if dir == places[0] / "ray":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(dir=dir)

    machine.setattr(tempfile, "TemporaryFile", full_at_first)
    assert prepare_machine() == {"_temp_dir": str(places[1] / "ray")}


def test_what_is_made_for_ray_is_made_for_all_users(places: list[Path]) -> None:
    """As Ray itself does, because the next user who starts Ray on this machine has a session in the same directory."""
    kept = os.umask(0o077)
    try:
        assert prepare_machine() == {}
    finally:
        os.umask(kept)
    assert stat.S_IMODE((places[0] / "ray").stat().st_mode) == 0o777


@bound_by_permissions
def test_what_another_user_made_for_ray_alone_is_gone_round(places: list[Path]) -> None:
    (places[0] / "ray").mkdir(mode=0o500)
    assert prepare_machine() == {"_temp_dir": str(places[1] / "ray")}
    assert stat.S_IMODE((places[0] / "ray").stat().st_mode) == 0o500, "it is not ours to change"


@pytest.mark.parametrize("home", ["/proc/none", "a file", "missing and unwritable"])
def test_a_home_that_cannot_be_written_needs_no_token_file(
    home: str, machine: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a file").touch()
    machine.setenv("HOME", home if home.startswith("/") else str(tmp_path / "a file" / "below"))
    prepare_machine()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_a_user_without_any_home_needs_no_token_file(machine: pytest.MonkeyPatch) -> None:
    """For example, in a container whose user has only a numeric id."""

    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    machine.setattr(Path, "home", none)
    prepare_machine()
    assert "RAY_AUTH_TOKEN" in os.environ


@pytest.mark.parametrize("kept", ["a file", "writable", "variable", "disabled"])
def test_who_has_a_token_keeps_it(kept: str, machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine.setenv("HOME", str(tmp_path))
    if kept == "a file":
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text("mine")
    if kept == "variable":
        machine.setenv("RAY_AUTH_TOKEN", "mine")
    if kept == "disabled":
        machine.setenv("RAY_AUTH_MODE", "disabled")
    prepare_machine()
    assert os.environ.get("RAY_AUTH_TOKEN") == ("mine" if kept == "variable" else None)


def test_open_files_are_as_many_as_may_be(machine: pytest.MonkeyPatch) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        prepare_machine()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert (soft, hard) == (min(65536, before[1]), before[1])


@pytest.mark.parametrize("address", ["local", "10.0.0.1:6379"])
@pytest.mark.parametrize("kind", [RuntimeError, Exception])
def test_what_ray_says_when_it_does_not_start_is_one_message(
    kind: type[Exception], address: str, machine: pytest.MonkeyPatch
) -> None:
    """Ray also raises bare exceptions, for example on a machine so busy that its processes do not start in time."""

    def fail(**_: object) -> None:
        raise kind("The current node timed out during startup.")

    machine.setattr(ray, "init", fail)
    with refused(Code.NO_CLUSTER, "timed out during startup", kind=InvalidRequest, file=address):
        tuner.connect(address)


def test_an_error_that_nobody_expected_stays_what_it_is(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(ray, "init", lambda **_: dict[str, int]()["none"])
    with pytest.raises(KeyError):
        tuner.connect("local")


@pytest.mark.parametrize("before", [signal.default_int_handler, signal.SIG_IGN], ids=["heeded", "ignored"])
def test_ray_keeps_no_signal_for_itself(before: Any, machine: pytest.MonkeyPatch) -> None:
    """``ray.init`` installs a SIGTERM handler that ends the process with 15, and leaves it installed."""

    def init(**_: object) -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        if before is not signal.SIG_IGN:
            os.kill(os.getpid(), signal.SIGTERM)

    machine.delenv("RAY_ADDRESS", raising=False)
    machine.setattr(ray, "init", init)
    found = signal.signal(signal.SIGTERM, before)
    try:
        with pytest.raises(KeyboardInterrupt) if before is not signal.SIG_IGN else nullcontext():
            tuner.connect(None)
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, found)


def test_usage_statistics_are_off_before_ray_starts(machine: pytest.MonkeyPatch) -> None:
    machine.delenv("RAY_ADDRESS", raising=False)
    machine.setenv("RAY_USAGE_STATS_ENABLED", "1")
    seen: list[str] = []
    machine.setattr(ray, "init", lambda **_: seen.append(os.environ["RAY_USAGE_STATS_ENABLED"]))
    tuner.connect(None)
    assert seen == ["0"]


@pytest.mark.parametrize("seen", [True, False])
def test_ray_counts_no_gpu_that_torch_does_not_see(seen: bool, machine: pytest.MonkeyPatch) -> None:
    """Trials would reserve it and compute on the processor; a launch says that it has none."""
    given: dict[str, object] = {}
    machine.delenv("RAY_ADDRESS", raising=False)
    machine.setattr(torch.cuda, "is_available", lambda: seen)
    machine.setattr(ray, "init", lambda **options: given.update(options))
    tuner.connect(None)
    assert given.get("num_gpus") == (None if seen else 0)
