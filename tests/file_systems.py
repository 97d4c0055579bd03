"""What tests of disks and folders share: things that are no files, and file systems of one's own.

Fixtures that every test has: ``disk`` (a small file system that can be full, read-only or gone; it takes root who may
mount one, else its tests are skipped) and ``irregular`` (each sort of thing that is no file, one after another).
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
    "a link that leads nowhere": lambda path: path.symlink_to(path.with_name(".nothing")),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to endless zeros": lambda path: path.symlink_to("/dev/zero"),
}
PIPES: dict[str, Callable[[Path], None]] = {
    "a named pipe": os.mkfifo,
    "a socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
}
IRREGULAR: dict[str, Callable[[Path], None]] = {**LINKS, **PIPES, "a folder": Path.mkdir}
"""What can stand in place of a file, by its name, and how it is made under a path."""


@pytest.fixture(params=IRREGULAR)
def irregular(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    """Makes something under a path that is no file."""
    return IRREGULAR[request.param]


class Disk:
    """A file system of 1 MB, mounted on a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """Leave no room on it."""
        with suppress(OSError), (self.folder / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def resize(self, size: str) -> None:
        """Give it another size, as ``200k`` or ``50m``."""
        subprocess.run(["mount", "-o", f"remount,size={size}", self.folder], check=True)

    def make_read_only(self) -> None:
        """From now on it refuses to be written."""
        subprocess.run(["mount", "-o", "remount,ro", self.folder], check=True)

    def take_away(self) -> None:
        """Unmount it, also while it is in use: the folder underneath comes to light, empty and writable."""
        subprocess.run(["umount", "-l", self.folder], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A real file system, which only root can make."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        own_file_system()
    yield Disk(folder)
    if folder.is_mount():
        subprocess.run(["umount", "-l", folder], check=True)  # a store holds its root open
