"""Facts about fetched sources, and the check of a file whose digest is known in part."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from jobs.errors import Code, DamagedFile
from jobs.models.weight_files import read_card
from jobs.system.files import open_file


class Fetched(NamedTuple):
    """A source that is now on this machine."""

    path: Path
    was_here: bool
    original_sha256: str
    known_beforehand: str
    """Where the downloaded file's digest was known from, as text."""


def described(path: Path, *, was_here: bool) -> Fetched:
    """Describe the weights at a path, with the file that they were converted from."""
    facts = read_card(path) or {}
    original = facts.get("original") or {"sha256": "unknown", "known_beforehand": "its card does not name its origin"}
    return Fetched(path, was_here, original["sha256"], original["known_beforehand"])


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_prefix(path: Path, prefix: str | None, known_from: str | None) -> None:
    """Compare a downloaded file with the first digits of its sha256, where these are known.

    Raises:
        DamagedFile: if it is another file.
    """
    if prefix is None or (sha256 := sha256_of(path)).startswith(prefix):
        return
    raise DamagedFile(
        Code.DAMAGED_DOWNLOAD,
        f"expected {path.name} to have a sha256 that begins with {prefix} ({known_from}); got {sha256}, and nothing "
        "was kept. Fix: name a mirror that has the original file",
        file=path,
    )
