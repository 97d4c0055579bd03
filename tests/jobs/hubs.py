"""A model hub on loopback, as the library of huggingface.co asks one: repositories, commits, refusals."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support import present


@dataclass
class Hub:
    """The files of a hub, and the requests that it received."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)  # by OWNER/NAME@COMMIT, then by name
    newest: dict[str, str] = field(default_factory=dict)  # commits, by OWNER/NAME
    refused: tuple[int, str] | None = None  # status and error code of every response
    announced: str | None = None  # in place of the files' sha256
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def publish(self, repository: str, commit: str, name: str, data: bytes) -> None:
        """Add a commit with one file, which becomes the newest."""
        self.files[f"{repository}@{commit}"] = {name: data}
        self.newest[repository] = commit


@contextmanager
def hub() -> Iterator[Hub]:
    """Serve a hub on a free port of loopback until the block ends."""
    served = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            data = self.answer()
            if data is not None:
                self.wfile.write(data)

        def answer(self) -> bytes | None:
            """Send the headers of a response. Returns the file; None if there is none."""
            served.asked.append(f"{self.command} {self.path}")
            owner, model, _, revision, name = self.path.lstrip("/").split("?")[0].split("/", 4)
            repository = f"{owner}/{model}"
            commit = served.newest.get(repository, "") if revision == "main" else revision
            files = served.files.get(f"{repository}@{commit}")
            refusal = served.refused
            if refusal is None and repository not in served.newest:
                refusal = (404, "RepoNotFound")
            elif refusal is None and files is None:
                refusal = (404, "RevisionNotFound")
            elif refusal is None and name not in present(files):
                refusal = (404, "EntryNotFound")
            if refusal is not None:
                self.refuse(*refusal, commit)
                return None
            data = present(files)[name]
            self.send_response(200)
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{served.announced or hashlib.sha256(data).hexdigest()}"')
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            return data

        def refuse(self, status: int, code: str, commit: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Repo-Commit", commit)
            self.send_header("Content-Length", "0")
            self.end_headers()

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
