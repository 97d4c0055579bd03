"""Asking servers that may answer anything, or never end: one opener for all requests."""

import http.client
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from jobs.file_kinds import what_it_is

SCHEMES = ("https", "http", "file")


class _Timed(http.client.HTTPConnection):
    """A connection whose answer has to begin within its timeout, however it dribbles in."""

    def getresponse(self) -> http.client.HTTPResponse:
        connected = self.sock
        with ExitStack() as late:
            with _ended_after(self.timeout, connected):
                answer = super().getresponse()
                late.callback(answer.close)
            late.pop_all()
        answer.connected = connected  # type: ignore[attr-defined]  # for `read`: urllib forgets it
        return answer


class _TimedTls(_Timed, http.client.HTTPSConnection):
    """The same behind TLS."""


@contextmanager
def _ended_after(seconds: Any, connected: socket.socket | None) -> Iterator[None]:
    """A timeout of a socket is one of each read: a server that sends a byte now and then never meets it."""
    passed = threading.Event()

    def end() -> None:
        passed.set()
        if connected is not None:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(float(seconds), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if not passed.is_set():
            raise
    finally:
        timer.cancel()
    if passed.is_set():  # what was read until then may look whole
        raise TimeoutError(f"no whole answer within {seconds:g} s")


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Timed, req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_TimedTls, req, context=self._context)  # type: ignore[attr-defined]  # as urllib's own does


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Those of urllib, but that what comes with one is not read: it may never end."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        fp.close()
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class _RegularFiles(urllib.request.FileHandler):
    """``file`` URLs of regular files: a named pipe would be waited for, a device has no end."""

    def file_open(self, req: urllib.request.Request) -> Any:
        path = Path(urllib.request.url2pathname(req.selector))
        if path.exists() and not path.is_file():
            raise OSError(f"it is {what_it_is(path)}")
        return super().file_open(req)


def opener(*, proxies: bool = True, redirections: bool = True) -> urllib.request.OpenerDirector:
    """For ``https``, ``http`` and ``file`` URLs; redirections lead to the first two alone.

    Its ``open(url, timeout=SECONDS)`` raises OSError, ``http.client.HTTPException`` or ValueError.

    Args:
        proxies: those of the environment; without, servers are asked directly.
        redirections: follow them; without, they are errors.
    """
    made = urllib.request.OpenerDirector()
    handlers: list[urllib.request.BaseHandler] = [
        urllib.request.ProxyHandler(None if proxies else {}),
        urllib.request.UnknownHandler(),
        _Http(),
        _Https(),
        _RegularFiles(),
        urllib.request.HTTPDefaultErrorHandler(),
        *([_Redirections()] if redirections else []),
        urllib.request.HTTPErrorProcessor(),
    ]
    for handler in handlers:
        made.add_handler(handler)
    return made


def read(answer: Any, most: int, within: float) -> bytes:
    """Some bytes of an answer, at most so many; none at its end.

    Args:
        within: seconds.

    Raises:
        OSError, http.client.HTTPException: when the connection breaks, or nothing came in time.
    """
    with _ended_after(within, getattr(answer, "connected", None)):
        return bytes(answer.read1(most) if hasattr(answer, "read1") else answer.read(most))
