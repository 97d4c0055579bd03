"""Shared by tests of disks and folders: paths that are not regular files, and temporary file systems.

Fixtures available to every test: ``disk`` (a small file system that can be full, read-only or missing; mounting it
requires root, otherwise its tests are skipped) and ``irregular`` (each type of path that is not a regular file, in
turn).
"""

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.machine import own_file_system


def _link_to_file(path: Path) -> None:
    target = path.with_name(f".elsewhere-{path.name}")
    target.write_bytes(b"elsewhere")
    path.symlink_to(target)


def _link_to_folder(path: Path) -> None:
    target = path.with_name(f".elsewhere-{path.name}")
    target.mkdir()
    path.symlink_to(target)


LINKS: dict[str, Callable[[Path], None]] = {
    "a link to a file": _link_to_file,
    "a link to a folder": _link_to_folder,
    "a link whose target does not exist": lambda path: path.symlink_to(path.with_name(".nothing")),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to endless zeros": lambda path: path.symlink_to("/dev/zero"),
}
PIPES: dict[str, Callable[[Path], None]] = {
    "a named pipe": os.mkfifo,
    "a socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
}
IRREGULAR: dict[str, Callable[[Path], None]] = {**LINKS, **PIPES, "a folder": Path.mkdir}
"""Path types that are not regular files: name to the function that creates one at a path."""


@pytest.fixture(params=IRREGULAR)
def irregular(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    """Return a function that creates something other than a regular file at a path."""
    return IRREGULAR[request.param]


class Disk:
    """A file system of 1 MB, mounted on a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """Fill the file system completely."""
        with suppress(OSError), (self.folder / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def resize(self, size: str) -> None:
        """Resize the file system; ``size`` is written as ``200k`` or ``50m``."""
        subprocess.run(["mount", "-o", f"remount,size={size}", self.folder], check=True)

    def make_read_only(self) -> None:
        """Remount the file system read-only."""
        subprocess.run(["mount", "-o", "remount,ro", self.folder], check=True)

    def take_away(self) -> None:
        """Unmount the file system even while it is in use, exposing the empty, writable folder underneath."""
        subprocess.run(["umount", "-l", self.folder], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mount a real file system; only root can do so."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        own_file_system()
    yield Disk(folder)
    if folder.is_mount():
        subprocess.run(["umount", "-l", folder], check=True)  # a store keeps its root open
