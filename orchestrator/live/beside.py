"""The live page beside a launch: a server in the background, which stays for those who look at the page afterwards.

Run as a module, it is that server.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from jobs.errors import InvalidRequest
from jobs.paths import VARIABLE
from jobs.results import open_store
from jobs.system.printable import one_line
from orchestrator.launching.options import page_command
from orchestrator.launching.request import LaunchRequest
from orchestrator.live.served import ServedPage
from orchestrator.planning import gpus

LINGER_SECONDS = 15 * 60
"""For which the page stays, once all launches have ended and nobody looks at it."""
_NICENESS = 10
"""Between that of a launch and Ray, and that of Ray's workers."""


@contextmanager
def page_of_launch(
    root: str, request: LaunchRequest, tell: Callable[[str], object], *, quiet: bool = False
) -> Iterator[Callable[[], str]]:
    """Provide what says where the live page of a root is: the address where this machine serves it, or a command.

    Args:
        root: URI of a results root, which exists when the function is called.
        request: the launch's; if it asks for the page and nobody serves it, it is served at least as long as this
            context lasts.
        tell: prints a line, also if the launch is quiet.
        quiet: whether the launch prints nothing; an address that was asked for is told.
    """
    with ExitStack() as until_end:

        def page() -> str:
            if not request.ui:
                return page_of_root(root, root)
            where = _page(root, request, until_end, tell)
            if quiet:
                tell(f"Live page: {where}")
            return where

        yield page


def page_of_root(root: str, shown: str) -> str:
    """Return the address where this machine serves the live page of a root, or the command that does.

    Args:
        root: URI of the results root.
        shown: the root in the command.
    """
    return ServedPage(root).address() or page_command(shown)


def _page(root: str, request: LaunchRequest, until_end: ExitStack, tell: Callable[[str], object]) -> str:
    served = ServedPage(root)
    try:
        until_end.enter_context(served.needed())
    except OSError as error:
        return _no_page(root, error, f"set ${VARIABLE} to a folder that can be written, or give --no-ui")
    try:
        with served.beginning():
            return served.address() or _serve(root, served, request, tell)
    except (OSError, InvalidRequest) as error:
        return _no_page(root, error, "run this command, or give --no-ui")


def _no_page(root: str, error: Exception, fix: str) -> str:
    return f"{page_command(root)} (no page is served: {error}. Fix: {fix})"


def _serve(root: str, served: ServedPage, request: LaunchRequest, tell: Callable[[str], object]) -> str:
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
    with at.listening, served.log.open("wb") as log:
        address, descriptor = at.address, at.listening.fileno()
        served.announce(address)
        server = subprocess.Popen(
            [sys.executable, "-P", "-m", __spec__.name, str(descriptor)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=[descriptor],
            start_new_session=True,  # Ctrl-C is for the launch
        )
        assert server.stdin is not None
        with server.stdin as given:
            given.write(json.dumps(asked).encode())
    threading.Thread(target=_tell_failure, args=(root, server, served.log, tell), daemon=True).start()
    return address


def _tell_failure(root: str, server: "subprocess.Popen[bytes]", log: Path, tell: Callable[[str], object]) -> None:
    """Wait for the end of a server, which usually outlives this process; tell it if that was not what it should do."""
    code = server.wait()
    if code == 0:
        return
    why = f"signal {-code}" if code < 0 else f"code {code}"
    if code > 0:
        with suppress(OSError):  # somebody has removed it
            why = one_line(log.read_text("utf-8", errors="replace").strip().rpartition("\n")[2])
    tell(f"Warning: the live page has ended: {why} (more in {log}). Fix: {page_command(root)}")


def _main() -> None:
    from orchestrator.live.serve import Place, serve

    os.nice(_NICENESS)
    asked = json.load(sys.stdin)
    at = Place(socket.socket(fileno=int(sys.argv[1])), asked["host"], asked["token"])
    gpu = gpus.gpu(asked["gpu"], asked["price"])
    serve(open_store(asked["root"]), gpu, at, lambda address: None, print, asked["linger"])


if __name__ == "__main__":
    _main()
