"""Servers on loopback for tests of object stores: moto's S3, and a proxy in front of it that misbehaves on demand."""

import http.client
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "fake", "AWS_SECRET_ACCESS_KEY": "fake", "AWS_REGION": "us-east-1"}
_FORWARD_SECONDS = 30


class S3(NamedTuple):
    """An S3 server in this process."""

    host: str
    port: int

    @property
    def endpoint(self) -> str:
        return f"http://{self.host}:{self.port}"

    def make_bucket(self) -> str:
        """Create a new bucket and return its name."""
        name = f"bucket-{uuid.uuid4().hex}"
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
        with urllib.request.urlopen(request, timeout=_FORWARD_SECONDS):
            return name


@contextmanager
def s3_server(address: str = "127.0.0.1") -> Iterator[S3]:
    """Run moto's server on a free port of an address of this machine, and stop it at the end."""
    from moto.s3.responses import S3Response  # takes a second, and few test sessions need it
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address=address, port=0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(S3Response, "put_object", one_at_a_time(S3Response.put_object))
        server.start()
        try:
            yield S3(*server.get_host_and_port())
        finally:
            server.stop()


def one_at_a_time(method: Callable[..., Any]) -> Callable[..., Any]:
    """Serialize calls, so that conditional writes are atomic as S3 promises.

    moto checks for the key and then writes, and another write may come in between.
    """
    lock = threading.Lock()

    def locked(*arguments: Any, **options: Any) -> Any:
        with lock:
            return method(*arguments, **options)

    return locked


Mishap = Callable[["_Handler"], bool]
"""A simulated fault of a request. True: the request has been handled; False: still forward it."""


class Proxy(ThreadingHTTPServer):
    """Forwards requests to a server, but applies one of ``mishaps`` to each request until they are used up."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, behind: S3) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = behind
        self.mishaps: list[Mishap] = []
        self.requests: list[str] = []
        self.released = threading.Event()
        """Set at the end, for requests that are being kept waiting."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that disconnected, which these tests cause on purpose."""


@contextmanager
def proxy_before(server: S3) -> Iterator[Proxy]:
    proxy = Proxy(server)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.released.set()
        proxy.shutdown()
        proxy.server_close()
        thread.join()


def answer(status: int) -> Mishap:
    """Return a fault that answers with a status instead of forwarding the request."""

    def mishap(handler: _Handler) -> bool:
        handler.reply(status, {}, b"")
        return True

    return mishap


def without(header: str) -> Mishap:
    """Return a fault that forwards the request without one of its headers, as if the server did not know it."""

    def mishap(handler: _Handler) -> bool:
        del handler.headers[header]
        return False

    return mishap


def lose_reply(handler: "_Handler") -> bool:
    """Let the server process the request, and drop the connection without a reply."""
    handler.forward()
    handler.close_connection = True
    handler.connection.close()
    return True


def never_answer(handler: "_Handler") -> bool:
    """Let the server process the request, and keep the client waiting."""
    handler.forward()
    assert isinstance(handler.server, Proxy)
    handler.server.released.wait(_FORWARD_SECONDS)
    handler.close_connection = True
    return True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def handle_request(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append(f"{self.command} {self.path}")
        mishap = self.server.mishaps.pop(0) if self.server.mishaps else None
        if mishap is None or not mishap(self):
            self.reply(*self.forward())

    do_GET = do_PUT = do_DELETE = do_HEAD = do_POST = handle_request

    def forward(self) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(*self.server.behind, timeout=_FORWARD_SECONDS)
        try:
            connection.request(self.command, self.path, self.body, dict(self.headers))
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        length = headers.pop("Content-Length", str(len(body))) if self.command == "HEAD" else str(len(body))
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""
