"""A cloud's metadata server on loopback; ``python -m tests.orchestrator.metadata PORT`` serves a spot notice of AWS."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NOTICE = json.dumps({"action": "terminate", "time": "2026-11-22T15:00:00Z"})


class Metadata(ThreadingHTTPServer):
    """What clouds tell their machines; the test sets ``action`` and ``preempted``."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.action: str | None = None
        self.preempted = "FALSE"
        self.broken = False
        self.requests: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Metadata

    def do_PUT(self) -> None:
        right = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self._answer(200 if right else 400, "session-token")

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if self.server.broken:
            self._answer(503, "")
        elif self.path == "/latest/meta-data/spot/instance-action":
            if self.headers["X-aws-ec2-metadata-token"] != "session-token":
                self._answer(401, "")
            else:
                self._answer(404 if self.server.action is None else 200, self.server.action or "")
        elif self.path == "/computeMetadata/v1/instance/preempted" and self.headers["Metadata-Flavor"] == "Google":
            self._answer(200, self.server.preempted)
        else:
            self._answer(404, "")

    def _answer(self, code: int, text: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


if __name__ == "__main__":
    server = Metadata(int(sys.argv[1]))
    server.action = NOTICE
    server.serve_forever()
