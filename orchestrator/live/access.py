"""Who may see the live page: a token, which the address or a cookie carries, and names under which it is asked for."""

import hashlib
import ipaddress
import secrets
import socket
from collections.abc import Iterable

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    # no inline code or style, nothing from elsewhere, and nobody frames the page
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_NO_TOKEN = (
    "This page needs the token in the address that `deltasweep` printed when it started the page:\n\n"
    "    http://HOST:PORT/?token=...\n\n"
    "Open that address once; this browser then remembers it until it is closed.\n"
)

_OTHER_NAME = (
    "This is not the server of that name. Fix: use the address that `deltasweep` printed, the machine's IP address, or "
    "a tunnel.\n"
)


def new_token() -> str:
    """Return 192 random bits, for one run of the server."""
    return secrets.token_urlsafe(24)


def cookie_name(token: str) -> str:
    """Return the name of the cookie with a token.

    Browsers keep the cookies of all ports of a machine together, and tunnels give the pages of several machines one
    name. Therefore each token has a cookie of its own.
    """
    return f"deltasweep-{hashlib.sha256(token.encode()).hexdigest()[:16]}"


class Guard:
    """Middleware that answers nobody without the token, and no request for a host that is not this server.

    A page elsewhere can let its own name point to 127.0.0.1 (DNS rebinding), so that a browser takes it for this
    server; the name in the request then gives it away. Addresses in numbers cannot be rebound.
    """

    def __init__(self, app: ASGIApp, *, token: str, hosts: Iterable[str]) -> None:
        """
        Args:
            hosts: the names of this server, besides addresses in numbers.
        """
        self._app = app
        self._token = token.encode()
        self._cookie = cookie_name(token)
        self._remembered = f"{self._cookie}={token}; Path=/; HttpOnly; SameSite=Strict"
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        given = self._is_token(request.query_params.get("token"))
        answer: ASGIApp = self._app
        if not self._is_own(request.headers.get("host", "")):
            answer = PlainTextResponse(_OTHER_NAME, 421)
        elif request.method not in ("GET", "HEAD"):
            answer = PlainTextResponse("This page is only read.\n", 405, {"allow": "GET, HEAD"})
        elif not given and not self._is_token(request.cookies.get(self._cookie)):
            answer = PlainTextResponse(_NO_TOKEN, 403)
        remember = given and answer is self._app

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                if remember:
                    headers.append("set-cookie", self._remembered)
            await send(message)

        await answer(scope, receive, protected)

    def _is_token(self, given: str | None) -> bool:
        return given is not None and secrets.compare_digest(given.encode(errors="replace"), self._token)

    def _is_own(self, host: str) -> bool:
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        return name.lower() in self._hosts or _is_address(name.strip("[]"))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether a server that listens there is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def names_of(host: str) -> set[str]:
    """Return the names of a server that listens there."""
    names = {"localhost", host}
    return names if is_loopback(host) else names | {socket.gethostname(), socket.getfqdn()}
