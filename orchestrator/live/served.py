"""Which results roots have a live page on this machine, at which address, and whether a launch still needs it."""

import fcntl
import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock

from jobs.specs.canonical import digest
from jobs.system.files import read_file, write_files
from orchestrator.live.own_folder import own_folder

_PATIENCE = 10.0
"""Seconds in which a live page has to answer, also while trials take all cores."""
_LONGEST_ADDRESS = 1000


class ServedPage:
    """The live page of one results root on this machine, as its server and launches tell each other in files.

    The file with the address, which contains the token, can be read by this user only. Launches hold a shared lock
    while they run, which a process that is killed releases, too.
    """

    def __init__(self, root: str) -> None:
        """
        Args:
            root: URI of the results root.
        """
        # machines may share the folder, but not their loopback
        self._name = f"{socket.gethostname()}-{digest(root)[:16]}"

    @property
    def log(self) -> Path:
        """What a server in the background prints.

        Raises:
            OSError: if no folder can be written.
        """
        return self._file("log", make=True)

    def address(self) -> str | None:
        """Return the address of the page, if it answers there."""
        try:
            address = self._announced()
        except (OSError, ValueError):
            return None
        return address if _answers(address) else None

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """Keep other launches from serving the page as well, until the address is announced.

        Raises:
            OSError: if no folder can be written.
        """
        with FileLock(self._file("begin", make=True)):
            yield

    def announce(self, address: str) -> None:
        """Tell this user's launches the address.

        Raises:
            OSError: if no folder can be written.
        """
        write_files({self._file("address", make=True): address.encode()}, mode=0o600)

    def announce_again(self, address: str) -> None:
        """Announce the address unless a page of the root is announced that answers: another server, which had taken
        its place, may have ended.
        """
        with suppress(OSError, ValueError):
            if self._announced() == address:
                return
        if self.address() is None:
            with suppress(OSError):
                self.announce(address)

    @contextmanager
    def announced(self, address: str) -> Iterator[None]:
        """Announce the address for as long as the page is served there, if a folder can be written."""
        with suppress(OSError):
            self.announce(address)
        try:
            yield
        finally:
            with suppress(OSError, ValueError):
                if self._announced() == address:
                    self._file("address").unlink()

    @contextmanager
    def needed(self) -> Iterator[None]:
        """Keep a server in the background from ending.

        Raises:
            OSError: if no folder can be written.
        """
        lock = self._file("lock", make=True)
        with lock.open("a+b") as file:  # NFS refuses a shared lock of what is not open for reading
            fcntl.flock(file, fcntl.LOCK_SH)
            yield

    def is_needed(self) -> bool:
        """Return whether a launch on this machine needs the page."""
        try:
            with self._file("lock").open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _announced(self) -> str:
        return read_file(self._file("address"), _LONGEST_ADDRESS).decode()

    def _file(self, what: str, *, make: bool = False) -> Path:
        return own_folder(make=make) / f"{self._name}.{what}"


def _answers(address: str) -> bool:
    """Return whether a live page is served there that takes this token. No proxy is asked."""
    try:
        parts = urlsplit(address)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_PATIENCE)
        try:
            connection.request("HEAD", f"/static/theme.css?{parts.query}")
            return connection.getresponse().status == http.client.OK
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException):
        return False
