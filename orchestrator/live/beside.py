"""The live page beside a launch: a server in the background, which stays for those who look at the page afterwards.

Run as a module, it is that server.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from jobs.errors import InvalidRequest
from jobs.results import open_store
from orchestrator.launching.options import page_command
from orchestrator.launching.request import LaunchRequest
from orchestrator.live.served import ServedPage
from orchestrator.planning import gpus

LINGER_SECONDS = 15 * 60
"""For which the page stays, once all launches have ended and nobody looks at it."""
_NICENESS = 10
"""Between that of a launch and Ray, and that of Ray's workers."""
_servers: list[subprocess.Popen[bytes]] = []
"""Those that this process has started. They outlive it."""


@contextmanager
def page_of_launch(root: str, request: LaunchRequest) -> Iterator[Callable[[], str]]:
    """Provide what says where the live page of a root is: the address where this machine serves it, or a command.

    Args:
        root: URI of a results root, which exists when the function is called.
        request: the launch's; if it asks for the page and nobody serves it, it is served at least as long as this
            context lasts.
    """
    with ExitStack() as until_end:
        yield lambda: _page(root, request, until_end) if request.ui else page_of_root(root, root)


def page_of_root(root: str, shown: str) -> str:
    """Return the address where this machine serves the live page of a root, or the command that does.

    Args:
        root: URI of the results root.
        shown: the root in the command.
    """
    return ServedPage(root).address() or page_command(shown)


def _page(root: str, request: LaunchRequest, until_end: ExitStack) -> str:
    served = ServedPage(root)
    try:
        until_end.enter_context(served.needed())
        return served.address() or _serve(root, served, request)
    except (OSError, InvalidRequest) as error:
        return f"{page_command(root)} (it could not be served: {error})"


def _serve(root: str, served: ServedPage, request: LaunchRequest) -> str:
    """Serve the page of a root in the background; return its address, where connections wait for it."""
    from orchestrator.live.serve import place

    at = place()
    asked = {
        "root": root,
        "gpu": request.gpu,
        "price": request.price,
        "host": at.host,
        "token": at.token,
        "linger": LINGER_SECONDS,
    }
    address, descriptor = at.address, at.listening.fileno()
    _servers[:] = [server for server in _servers if server.poll() is None]
    with at.listening, served.log.open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-P", "-m", __spec__.name, str(descriptor)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=[descriptor],
            start_new_session=True,  # Ctrl-C is for the launch
        )
        _servers.append(server)
        assert server.stdin is not None
        with server.stdin as given:
            given.write(json.dumps(asked).encode())
    return address


def _main() -> None:
    import socket

    from orchestrator.live.serve import Place, serve

    os.nice(_NICENESS)
    asked = json.load(sys.stdin)
    at = Place(socket.socket(fileno=int(sys.argv[1])), asked["host"], asked["token"])
    gpu = gpus.gpu(asked["gpu"], asked["price"])
    serve(open_store(asked["root"]), gpu, at, lambda address: None, print, asked["linger"])


if __name__ == "__main__":
    _main()
