"""Serving the live page until it is interrupted, or nobody needs it any more."""

import asyncio
import errno
import gc
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
import uvicorn

from jobs.errors import Code, InvalidRequest
from jobs.results import Store, root_exists
from orchestrator.live.access import is_loopback, names_of, new_token
from orchestrator.live.app import make_app
from orchestrator.live.pages import PAGES, Pages
from orchestrator.live.served import ServedPage
from orchestrator.live.watch import Watch
from orchestrator.planning.gpus import Gpu

PORT = 8737
LOOPBACK = "127.0.0.1"
_MOST_WAITING = 128
_GRACE_SECONDS = 2
_ASK_SECONDS = 2
"""How often a server sees to it that its address is announced and, in the background, whether it is needed."""


class Place(NamedTuple):
    """Where a live page is served: connections wait there from now on."""

    listening: socket.socket
    host: str
    token: str

    @property
    def port(self) -> int:
        port: int = self.listening.getsockname()[1]
        return port

    @property
    def address(self) -> str:
        shown = socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{f'[{shown}]' if ':' in shown else shown}:{self.port}/?token={self.token}"


def place(host: str = LOOPBACK, port: int | None = None) -> Place:
    """Listen for a live page, with a new token.

    Args:
        host: where to listen.
        port: 0: any free one; None: ``PORT`` or, if that is taken, any free one.

    Raises:
        InvalidRequest: if this machine has no such address, or the port is taken.
    """
    if port is None:
        try:
            return place(host, PORT)
        except InvalidRequest as error:
            if error.place.key != "--port":
                raise
            port = 0
    return Place(_listen(host, port), host, new_token())


class _Server(uvicorn.Server):
    """Ends the streams of all viewers when it is asked to end; otherwise it would wait for them."""

    def __init__(self, config: uvicorn.Config, watch: Watch) -> None:
        super().__init__(config)
        self._watch = watch

    def handle_exit(self, sig: int, frame: object) -> None:
        self._watch.close()
        super().handle_exit(sig, frame)  # type: ignore[arg-type]  # frames are not looked at


def serve(
    store: Store,
    gpu: Gpu,
    at: Place,
    ready: Callable[[str], object],
    warn: Callable[[str], object],
    linger: float | None = None,
) -> None:
    """Serve the live page of a results root, which may not exist yet, and tell launches on this machine its address.

    Args:
        at: where; anything but this machine's loopback is said loudly. It is closed at the end.
        ready: called with the address of the page, once somebody can open it.
        warn: prints a line.
        linger: end after so many seconds in which nobody watched and no launch on this machine needed the page; None:
            only a signal ends it.

    Raises:
        InvalidRequest: if the bucket does not exist, or a newer DeltaSweep has written the root.
        StorageFailure: if the storage does not respond.
    """
    if not root_exists(store):
        warn(f"{store.uri} does not exist yet; the page waits for it. Fix: if it should exist, check --results")
    pd.set_option("mode.string_storage", "python")  # deltas take two thirds of the time that they take with Arrow's
    watch, served = Watch(store, gpu), ServedPage(store.uri)
    try:
        watch.start()
        app = make_app(watch, at.token, names_of(at.host))
        Pages(watch).whole(PAGES[0], {}, {})  # loads and expands what the first view needs, before somebody waits
        gc.freeze()  # what has been read stays; looking for garbage in it takes as long as an update
        if not is_loopback(at.host):
            warn(
                f"Warning: {at.host} is not this machine alone. Everybody who can reach it and knows the address sees "
                "the results, and the connection is not encrypted. An SSH tunnel is safer: "
                f"ssh -L {at.port}:{LOOPBACK}:{at.port} MACHINE"
            )
        address = at.address
        ready(address)
        needed_at = time.monotonic()

        async def look_around() -> None:
            nonlocal needed_at
            now = time.monotonic()
            if linger is not None and served.is_needed():
                needed_at = now
            if linger is not None and now - max(needed_at, watch.watched_at) > linger:
                watch.close()
                server.should_exit = True
            else:
                await asyncio.to_thread(served.announce_again, address)

        config = uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            server_header=False,
            ws="none",
            lifespan="off",
            callback_notify=look_around,
            timeout_notify=_ASK_SECONDS,
        )
        server = _Server(config, watch)
        with served.announced(address):
            asyncio.run(server.serve([at.listening]))
    finally:
        watch.close()
        at.listening.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(_MOST_WAITING)
        except OSError:
            listening.close()
            raise
        return listening
    except (OSError, UnicodeError, OverflowError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        fix = "give another --port (0: any free one)" if taken else "correct --host or --port"
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"expected a free port of this machine; {host} port {port} cannot be used ({error}). Fix: {fix}",
            key="--port" if taken else "--host",
        ) from error
