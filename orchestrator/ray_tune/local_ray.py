"""Preparation of a machine for starting Ray: a directory for sockets, a token, and the limit of open files."""

import os
import resource
import secrets
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jobs.errors import Code, InvalidRequest, StorageFailure
from jobs.system.memory import Memory

_SOCKET = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""The longest path below the directory. Pids have up to seven digits."""
_SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
"""Maximum length of a socket's path."""
_ROOM_BYTES = 1_000_000
"""Space that Ray needs to start."""
_OPEN_FILES = 65536
_IMPORTED = ("orchestrator", "jobs", "analysis", "ray", "torch", "torchvision", "numpy", "pyarrow", "pydantic", "yaml")

_MOST_USED = 0.95
"""The share of memory in use above which Ray's memory monitor kills actors by default."""
_MONITOR_EVERY_MS = 250
"""How often it looks by default."""
_ACTOR_BYTES = 6e8
"""Memory of an actor that has imported torch."""


def prepare_machine() -> dict[str, Any]:
    """Prepare this machine for Ray, with an alternative directory if the default one is unusable.

    Returns:
        Arguments for ``ray.init``.

    Raises:
        StorageFailure: If no usable directory exists.
    """
    _raise_open_files()
    if not _keeps_a_token():
        # Ray would write a token to the home directory; its processes read this one from their environment
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    usual, *others = _directories()
    if usual.is_absolute() and _is_usable(usual):
        return {}
    for directory in others:
        if _is_usable(directory):
            return {"_temp_dir": str(directory / "ray")}
    raise StorageFailure(
        Code.STORAGE,
        f"expected a writable directory for Ray's sockets with a path of at most "
        f"{_SOCKET_BYTES - len(_SOCKET) - 1} bytes; got {usual}, and {', '.join(map(str, others))} cannot be used "
        "either. Fix: set RAY_TMPDIR to such a directory",
        file=usual,
        key="$RAY_TMPDIR",
    )


def scarce_memory(memory: Memory) -> list[str]:
    """Return a warning if Ray, started from this process, would kill the first actor for lack of memory, which it does
    without a word.
    """
    kept = _kept_free(memory.total)
    if kept is None or memory.free - kept >= _ACTOR_BYTES:
        return []
    return [
        f"{memory.free / 1e9:.1f} of {memory.total / 1e9:.1f} GB of this machine's memory are free; Ray kills actors "
        f"while fewer than {kept / 1e9:.1f} GB are, and one needs {_ACTOR_BYTES / 1e9:.1f} GB before its trial does. "
        "Fix: end other programs"
    ]


def _kept_free(total: int) -> float | None:
    """Return the bytes below which Ray's memory monitor kills actors; None if it is off. Ray's processes read their
    settings from the environment, where a number that is none ends them with their own message.
    """
    if _setting("memory_monitor_refresh_ms", _MONITOR_EVERY_MS) == 0:
        return None
    kept, least = (1 - _setting("memory_usage_threshold", _MOST_USED)) * total, _setting("min_memory_free_bytes", -1)
    return kept if least < 0 else min(kept, least)


def _setting(name: str, default: float) -> float:
    """Return a number of Ray's configuration as the environment has it."""
    try:
        return float(os.environ.get(f"RAY_{name}", default))
    except ValueError:
        return default


def require_own_packages(directory: Path) -> None:
    """Check that no file in the current directory has the name of a package that actors import, if the calling process
    has joined Ray itself (``tuner.OwnJob``).

    Raises:
        InvalidRequest: naming the file.
    """
    for name in _IMPORTED:
        spec = find_spec(name)
        own = Path(spec.origin) if spec is not None and spec.origin is not None else None
        for file in (directory / f"{name}.py", directory / name / "__init__.py"):
            if file.is_file() and not (own is not None and file.samefile(own)):
                raise InvalidRequest(
                    Code.WRONG_PLACE,
                    f"expected a directory without a file called like a package that trials import; {file} would be "
                    f"imported as {name} by Ray's workers. Fix: rename it, or run the command in another directory",
                    file=file,
                )


def _directories() -> list[Path]:
    """Return Ray's default directory and the alternatives, as absolute paths since its processes run elsewhere."""
    usual = os.environ.get("RAY_TMPDIR") or (os.environ.get("TMPDIR") if sys.platform == "linux" else None) or "/tmp"
    full = [Path(place).absolute() for place in (usual, tempfile.gettempdir(), "/tmp", "/var/tmp")]
    return [Path(usual), *(place for place in dict.fromkeys(full) if place != Path(usual))]


def _is_usable(directory: Path) -> bool:
    if len(os.fsencode(directory.absolute() / _SOCKET)) > _SOCKET_BYTES:
        return False
    try:
        str(directory).encode()  # Ray's processes pass the path on as text
        if not (directory / "ray").is_dir():
            (directory / "ray").mkdir(parents=True, exist_ok=True)
            (directory / "ray").chmod(0o777)  # as Ray does, since users of the machine share the directory
        with tempfile.TemporaryFile(dir=directory / "ray") as file:
            file.write(bytes(_ROOM_BYTES))
            file.flush()
            return True
    except (OSError, UnicodeEncodeError):
        return False


def _keeps_a_token() -> bool:
    """Whether Ray has a token, needs none, or can write one."""
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
    """Raise the limit of open files. Ray's processes inherit it, and each keeps hundreds of files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
