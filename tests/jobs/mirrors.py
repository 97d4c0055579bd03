"""A mirror of files on loopback that continues, refuses, cuts off and lies on demand."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Mirror:
    """What a mirror serves, how it misbehaves, and what it was asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: int | None = None  # bytes of a body that go out before the connection closes
    cut_only_once: bool = False
    ranges: bool = True  # whether it continues where it is asked to
    length: bool = True  # whether it says how long its answer is
    status: int | None = None  # answers everything with this
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path and Range header
    url: str = ""

    @property
    def ranges_asked(self) -> list[str | None]:
        return [range_ for _, range_ in self.asked]


@contextmanager
def mirror(**behaviour: Any) -> Iterator[Mirror]:
    """Serve files on a free port of loopback until the block ends."""
    served = Mirror(**behaviour)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            range_ = self.headers.get("Range")
            served.asked.append((self.path, range_))
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
            if served.length:
                self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            rest = body[start:]
            if served.cut_after is not None:
                rest = rest[: served.cut_after]
                if served.cut_only_once:
                    served.cut_after = None
            self.wfile.write(rest)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
