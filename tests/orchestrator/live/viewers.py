"""Viewers of the live page: they read its tags, or follow the updates of a page that a thread serves."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from html.parser import HTMLParser
from typing import Any

import uvicorn

from orchestrator.live.app import make_app
from orchestrator.live.watch import Watch
from tests.orchestrator.live.roots import TOKEN


class Tags(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


class Viewer:
    """Follows the updates of a page in a thread."""

    def __init__(self, port: int, address: str, last_event: str = "") -> None:
        """
        Args:
            last_event: id of the last event before the viewer was interrupted.
        """
        self.news: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {"last-event-id": last_event} if last_event else {}
        token = f"{'&' if '?' in address else '?'}token={TOKEN}"
        self._connection.request("GET", address + token, headers=headers)
        self._socket = self._connection.sock
        self._answer = self._connection.getresponse()
        self.status = self._answer.status
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def _follow(self) -> None:
        with suppress(OSError, http.client.HTTPException):
            for line in self._answer:
                if line.startswith(b"id: "):
                    self.ids.append(line[4:].decode().strip())
                if line.startswith(b"data: "):
                    self.news.append(json.loads(line[6:]))

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(30)
        self._answer.close()
        self._connection.close()

    def waits_for(self, words: str, part: str) -> None:
        """Wait until a part with these words arrives."""
        until = time.monotonic() + 60
        while not any(words in news["parts"].get(part, "") for news in self.news):
            assert time.monotonic() < until, self.news[-1]
            time.sleep(0.05)

    def waits_for_news(self, number: int) -> None:
        """Wait until so many events have arrived."""
        until = time.monotonic() + 60
        while len(self.news) < number:
            assert time.monotonic() < until
            time.sleep(0.05)


@contextmanager
def serving(watch: Watch) -> Iterator[Callable[..., Viewer]]:
    """Serve the live page on a free port of this machine; provide a function that opens a stream of updates."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    app = make_app(watch, TOKEN, {"localhost"})
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    opened: list[Viewer] = []

    def view(address: str = "/events", last_event: str = "") -> Viewer:
        opened.append(Viewer(port, address, last_event))
        return opened[-1]

    try:
        yield view
    finally:
        watch.close()
        for viewer in opened:
            viewer.close()
        server.should_exit = True
        thread.join(30)
        listening.close()
        assert not thread.is_alive()
