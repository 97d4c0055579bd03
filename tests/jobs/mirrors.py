"""A file mirror on loopback that resumes, refuses, truncates and misreports on demand."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Mirror:
    """The files of a mirror, its misbehaviour, and the requests it received."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: int | None = None  # bytes of a body that are sent before the connection closes
    cut_only_once: bool = False
    ranges: bool = True  # whether it resumes at the requested position
    length: bool = True  # whether it sends the length of its response
    announced: str | None = None  # sent in place of the length of its response
    endless: bytes = b""  # sent repeatedly after a file
    pause: float = 0  # seconds between two pieces of the endless part
    redirect: str | None = None  # target to which all other requests are redirected
    raw: bytes | None = None  # sent as every response, followed by the endless part
    status: int | None = None  # status of every response
    sent: int = 0  # bytes sent of the endless part
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path and Range header
    url: str = ""

    @property
    def ranges_asked(self) -> list[str | None]:
        return [range_ for _, range_ in self.asked]


@contextmanager
def mirror(**behaviour: Any) -> Iterator[Mirror]:
    """Serve files on a free port of loopback until the block ends."""
    served = Mirror(**behaviour)
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            range_ = self.headers.get("Range")
            served.asked.append((self.path, range_))
            if served.raw is not None:
                self.wfile.write(served.raw)
                self._go_on()
                return
            if served.redirect is not None and not served.redirect.endswith(self.path):
                self.send_response(302)
                self.send_header("Location", served.redirect)
                self.end_headers()
                self._go_on()
                return
            body = served.files.get(self.path.lstrip("/"))
            if served.status or body is None:
                self.send_error(served.status or 404)
                return
            start = int(range_.removeprefix("bytes=").removesuffix("-")) if range_ and served.ranges else 0
            if start and start >= len(body):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            if served.announced is not None:
                self.send_header("Content-Length", served.announced)
            elif served.length:
                self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            rest = body[start:]
            if served.cut_after is not None:
                rest = rest[: served.cut_after]
                if served.cut_only_once:
                    served.cut_after = None
            self.wfile.write(rest)
            self._go_on()

        def _go_on(self) -> None:
            with suppress(OSError):  # until the client disconnects, or the test ends
                while served.endless and not ended.wait(served.pause):
                    self.wfile.write(served.endless)
                    served.sent += len(served.endless)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
