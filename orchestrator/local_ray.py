"""What a machine needs so that Ray starts on it: a directory for sockets, a token, open files."""

import os
import resource
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Any

from jobs.errors import Code, StorageFailure

_SOCKET = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""The longest name below the directory; pids have up to seven digits."""
_SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
"""What a socket's address holds."""
_ROOM_BYTES = 1_000_000
"""For what Ray writes as it starts."""
_OPEN_FILES = 65536


def prepare_machine() -> dict[str, Any]:
    """Make room for Ray on this machine, by another place where the usual one cannot be used.

    Returns:
        Arguments for ``ray.init``.

    Raises:
        StorageFailure: when no directory can hold its files.
    """
    _raise_open_files()
    if not _keeps_a_token():
        # Ray would write one into the home directory; what it starts finds this one in its environment
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    usual, *others = _directories()
    if usual.is_absolute() and _is_usable(usual):
        return {}
    for directory in others:
        if _is_usable(directory):
            return {"_temp_dir": str(directory / "ray")}
    raise StorageFailure(
        Code.STORAGE,
        f"Ray keeps its sockets in a directory that can be written to and whose path has at most "
        f"{_SOCKET_BYTES - len(_SOCKET) - 1} bytes; got {usual}, and {', '.join(map(str, others))} cannot be used "
        "either. Fix: set RAY_TMPDIR to such a directory",
        file=usual,
        key="$RAY_TMPDIR",
    )


def _directories() -> list[Path]:
    """Where Ray would keep its files, and where else it could: in full, since its processes work in other places."""
    usual = os.environ.get("RAY_TMPDIR") or (os.environ.get("TMPDIR") if sys.platform == "linux" else None) or "/tmp"
    full = [Path(place).absolute() for place in (usual, tempfile.gettempdir(), "/tmp", "/var/tmp")]
    return [Path(usual), *(place for place in dict.fromkeys(full) if place != Path(usual))]


def _is_usable(directory: Path) -> bool:
    if len(os.fsencode(directory.absolute() / _SOCKET)) > _SOCKET_BYTES:
        return False
    try:
        str(directory).encode()  # Ray's processes tell it each other as text
        if not (directory / "ray").is_dir():
            (directory / "ray").mkdir(parents=True, exist_ok=True)
            (directory / "ray").chmod(0o777)  # as Ray makes it: other users of the machine have theirs in it, too
        with tempfile.TemporaryFile(dir=directory / "ray") as file:
            file.write(bytes(_ROOM_BYTES))
            file.flush()
            return True
    except (OSError, UnicodeEncodeError):
        return False


def _keeps_a_token() -> bool:
    """Whether Ray has a token, needs none, or can write one down."""
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys() or os.environ.get("RAY_AUTH_MODE") == "disabled":
        return True
    try:
        folder = Path.home() / ".ray"
        if (folder / "auth_token").is_file():
            return os.access(folder / "auth_token", os.R_OK)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except (OSError, RuntimeError):  # RuntimeError: there is no home directory
        return False


def _raise_open_files() -> None:
    """Ray's processes inherit the limit, and each holds hundreds of files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
