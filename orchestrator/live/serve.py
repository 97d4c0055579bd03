"""Serving the live page until it is interrupted."""

import asyncio
import errno
import gc
import socket
from collections.abc import Callable

import pandas as pd
import uvicorn

from jobs.errors import Code, InvalidRequest
from jobs.results import Store, require_root
from orchestrator.live.access import is_loopback, names_of, new_token
from orchestrator.live.app import make_app
from orchestrator.live.pages import PAGES, Pages
from orchestrator.live.watch import Watch
from orchestrator.planning.gpus import Gpu

PORT = 8737
LOOPBACK = "127.0.0.1"
_MOST_WAITING = 128
_GRACE_SECONDS = 2


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
    host: str,
    port: int,
    ready: Callable[[str], object],
    warn: Callable[[str], object],
) -> None:
    """Serve the live page of a results root.

    Args:
        host: where to listen; anything but this machine's loopback is said loudly.
        port: 0: any free one.
        ready: called with the address of the page, once somebody can open it.
        warn: prints a line.

    Raises:
        InvalidRequest: if the root does not exist, or the port is taken.
        StorageFailure: if the storage does not respond.
    """
    require_root(store)
    pd.set_option("mode.string_storage", "python")  # deltas take two thirds of the time that they take with Arrow's
    listening = _listen(host, port)
    watch = Watch(store, gpu)
    try:
        port = listening.getsockname()[1]
        watch.start()
        token = new_token()
        app = make_app(watch, token, port, names_of(host))
        Pages(watch).whole(PAGES[0], {}, {})  # loads and expands what the first view needs, before somebody waits
        gc.freeze()  # what has been read stays; looking for garbage in it takes as long as an update
        shown = socket.gethostname() if host in ("0.0.0.0", "::") else host
        if not is_loopback(host):
            warn(
                f"Warning: {host} is not this machine alone. Everybody who can reach it and knows the address sees the "
                "results, and the connection is not encrypted. An SSH tunnel is safer: "
                f"ssh -L {port}:{LOOPBACK}:{port} MACHINE"
            )
        ready(f"http://{_in_address(shown)}:{port}/?token={token}")
        config = uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            server_header=False,
            ws="none",
            lifespan="off",
        )
        asyncio.run(_Server(config, watch).serve([listening]))
    finally:
        watch.close()
        listening.close()


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


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host
