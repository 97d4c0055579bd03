"""HTTP requests to untrusted servers, whose responses may be arbitrary or endless: one opener for all requests."""

import http.client
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from jobs.system.file_kinds import what_it_is

SCHEMES = ("https", "http", "file")


class _Timed(http.client.HTTPConnection):
    """A connection that must receive the complete response headers within its timeout, even if data trickles in."""

    def getresponse(self) -> http.client.HTTPResponse:
        connected = self.sock
        with ExitStack() as late:
            with _ended_after(self.timeout, connected):
                answer = super().getresponse()
                late.callback(answer.close)
            late.pop_all()
        answer.connected = connected  # type: ignore[attr-defined]  # for `read`; urllib drops the reference
        return answer


class _TimedTls(_Timed, http.client.HTTPSConnection):
    """The same over TLS."""


@contextmanager
def _ended_after(seconds: Any, connected: socket.socket | None) -> Iterator[None]:
    """Limit the total time of an operation; a socket timeout applies to each read, so slow servers never exceed it."""
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
    if passed.is_set():  # a truncated response may look complete
        raise TimeoutError(f"no complete response within {seconds:g} s")


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Timed, req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_TimedTls, req, context=self._context)  # type: ignore[attr-defined]  # as in urllib


class _Redirections(urllib.request.HTTPRedirectHandler):
    """urllib's redirect handler, except that the body of a redirect, which may be endless, is not read."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        fp.close()
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class _RegularFiles(urllib.request.FileHandler):
    """``file`` URLs of regular files only: a named pipe could block, and a device may be endless."""

    def file_open(self, req: urllib.request.Request) -> Any:
        path = Path(urllib.request.url2pathname(req.selector))
        if path.exists() and not path.is_file():
            raise OSError(f"it is {what_it_is(path)}")
        return super().file_open(req)


def opener(*, proxies: bool = True, redirections: bool = True) -> urllib.request.OpenerDirector:
    """Return an opener for ``https``, ``http`` and ``file`` URLs; redirects are followed to the first two only.

    Its ``open(url, timeout=SECONDS)`` raises ``OSError``, ``http.client.HTTPException`` or ``ValueError``.

    Args:
        proxies: whether to use the proxies set in the environment.
        redirections: whether to follow redirects; otherwise they are errors.
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
    """Read some bytes of a response; an empty result is its end.

    Args:
        answer: the response.
        most: the maximum number of bytes.
        within: the timeout, in seconds.

    Raises:
        OSError, http.client.HTTPException: if the connection breaks, or nothing arrives in time.
    """
    with _ended_after(within, getattr(answer, "connected", None)):
        return bytes(answer.read1(most) if hasattr(answer, "read1") else answer.read(most))
