"""Getting source models that somebody else publishes: download, verify, convert (``deltasweep models fetch``)."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from jobs import registry
from jobs.conversion import convert_source
from jobs.download import Progress, download, writing
from jobs.errors import Code, DamagedFile, InvalidRequest
from jobs.files import open_file
from jobs.home import weights_directory
from jobs.registry import Release, SourceCard
from jobs.source_files import read_card, weights_path
from jobs.weights import load_source


class Fetched(NamedTuple):
    """A source that is on this machine now."""

    path: Path
    was_here: bool
    original_sha256: str
    known_beforehand: str
    """Who knew the downloaded file's digest, in words."""


def fetch_source(name: str, on_progress: Progress, *, mirror: str | None = None, replace: bool = False) -> Fetched:
    """Download a source's published file, verify it, and convert it; what is here already is only verified.

    The downloaded file is removed once it is converted, and when it is refused. A download that breaks is kept in
    part, and continued by the next call when its digest is known beforehand.

    Args:
        mirror: a URL below which the file lies by its own name; used instead of the registry's addresses.
        replace: fetch it again, and put it in the place of what is here.

    Raises:
        InvalidRequest: when nobody publishes the source, or other weights have its name.
        MissingData: when no address gives the file.
        DamagedFile: when it is another file, or what is here is damaged.
        StorageFailure: when it cannot be written: disk full, folder not writable.
    """
    card = registry.source(name)
    release = _release(card)
    path = weights_path(name)
    target = weights_directory() / "downloads" / release.file
    urls = (f"{mirror.rstrip('/')}/{release.file}",) if mirror else release.urls
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f"{name}.lock")):  # of several processes one fetches and the others wait
            if path.is_file() and not replace:
                return _verified(card, release, path)
            download(urls, target, sha256=release.sha256, size=release.size, on_progress=on_progress)
            try:
                _require_prefix(release, target)
                convert_source(target, name, replace=replace, url=urls[0], must_be=release.format)
            finally:
                target.unlink(missing_ok=True)
    return _described(path, was_here=False)


def _release(card: SourceCard) -> Release:
    if card.release is None:
        remedy = "it needs no file" if card.bundled or card.random else f"make it with: {card.how_to_get}"
        raise InvalidRequest(
            Code.WRONG_VALUE, f"source {card.name!r} is not published as a file; {remedy}", key="source"
        )
    return card.release


def _verified(card: SourceCard, release: Release, path: Path) -> Fetched:
    """Hold what is here against its card, and the file that it was made from against the registry."""
    load_source(card.name)
    found = _described(path, was_here=True)
    known = release.sha256 or release.sha256_prefix
    if known and not found.original_sha256.startswith(known):
        raise InvalidRequest(
            Code.OTHER_DIGEST,
            f"{path} was made from a file with the sha256 {found.original_sha256}, the one published as {card.name!r} "
            f"has {known}; --replace fetches that one",
            file=path,
            key="--replace",
        )
    original = (read_card(path) or {}).get("original") or {}
    if not known and original.get("file") not in (None, release.file):
        raise InvalidRequest(
            Code.OTHER_DIGEST,
            f"{path} was made from {original['file']}, and {card.name!r} is published as {release.file}: it may be "
            "another study's source of this name; --replace fetches that file",
            file=path,
            key="--replace",
        )
    return found


def _described(path: Path, *, was_here: bool) -> Fetched:
    facts = read_card(path) or {}
    original = facts.get("original") or {"sha256": "unknown", "known_beforehand": "its card does not say from what"}
    return Fetched(path, was_here, original["sha256"], original["known_beforehand"])


def _require_prefix(release: Release, path: Path) -> None:
    if release.sha256_prefix is None:
        return
    with open_file(path) as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if not sha256.startswith(release.sha256_prefix):
        raise DamagedFile(
            Code.DAMAGED_DOWNLOAD,
            f"{path.name} must have a sha256 that begins with {release.sha256_prefix} ({release.known_from}) and has "
            f"{sha256}; nothing was kept. Name a mirror that has the original file",
            file=path,
        )
