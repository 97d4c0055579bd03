"""Which results roots have a live page on this machine, at which address, and whether a launch still needs it."""

import fcntl
import http.client
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock

from jobs.paths import live_directory
from jobs.specs.canonical import digest
from jobs.system.files import read_file

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
        name = f"{socket.gethostname()}-{digest(root)[:16]}"
        self._address = live_directory() / f"{name}.address"
        self._lock = live_directory() / f"{name}.lock"
        self._beginning = FileLock(live_directory() / f"{name}.begin")
        self.log = live_directory() / f"{name}.log"
        """What a server in the background prints."""

    def address(self) -> str | None:
        """Return the address of the page, if it answers there."""
        try:
            address = read_file(self._address, _LONGEST_ADDRESS).decode()
        except (OSError, ValueError):
            return None
        return address if _answers(address) else None

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """Keep other launches from serving the page as well, until the address is announced.

        Raises:
            OSError: if the folder cannot be written.
        """
        self._make_folder()
        with self._beginning:
            yield

    def announce(self, address: str) -> None:
        """Tell this user's launches the address.

        Raises:
            OSError: if the folder cannot be written.
        """
        self._make_folder()
        written = self._address.with_suffix(f".{os.getpid()}")
        written.touch(mode=0o600)
        written.write_text(address, encoding="utf-8")
        written.replace(self._address)

    @contextmanager
    def announced(self, address: str) -> Iterator[None]:
        """Announce the address for as long as the page is served there, if the folder can be written."""
        with suppress(OSError):
            self.announce(address)
        try:
            yield
        finally:
            with suppress(OSError):
                if read_file(self._address, _LONGEST_ADDRESS).decode() == address:
                    self._address.unlink()

    @contextmanager
    def needed(self) -> Iterator[None]:
        """Keep a server in the background from ending.

        Raises:
            OSError: if the folder cannot be written.
        """
        self._make_folder()
        with self._lock.open("a+b") as file:  # NFS refuses a shared lock of what is not open for reading
            fcntl.flock(file, fcntl.LOCK_SH)
            yield

    def is_needed(self) -> bool:
        """Return whether a launch on this machine needs the page."""
        try:
            with self._lock.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _make_folder(self) -> None:
        folder: Path = live_directory()
        folder.mkdir(parents=True, exist_ok=True)


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
