"""Fetch source models (``deltasweep models fetch``): download published ones, verify, convert."""

from pathlib import Path

from filelock import FileLock

from jobs.catalog.catalog import Catalog, how_to_get
from jobs.catalog.source_card import Release, SourceCard
from jobs.errors import Code, InvalidRequest
from jobs.models.conversion import convert_source
from jobs.models.fetch_published import fetch_published
from jobs.models.fetched import Fetched, described, require_prefix
from jobs.models.own_weights import convert_own
from jobs.models.weight_files import read_card, weights_path
from jobs.models.weights import load_source
from jobs.paths import weights_directory
from jobs.system.download import Progress, download, writing


def fetch_source(
    name: str, catalog: Catalog, on_progress: Progress, *, mirror: str | None = None, replace: bool = False
) -> Fetched:
    """Download a source's published file, verify it, and convert it. If the source is present, only verify it.

    A study's own file (``weights`` in its card) is converted where it lies; one that its card names (``published``) is
    got from where torchvision or timm say.

    The downloaded file is deleted once it has been converted or refused. An interrupted download is kept and resumed by
    the next call if its digest is known in advance.

    Args:
        mirror: URL of a folder that contains the file under its own name; used instead of the catalogue's URLs.
        replace: fetch it again and replace the weights that are present.

    Raises:
        InvalidRequest: if the source is not published, or other weights have its name.
        MissingData: if no URL provides the file, or a study's own file is not on this machine.
        DamagedFile: if it is another file, or the weights that are present are damaged.
        StorageFailure: if it cannot be written: disk full, folder not writable.
    """
    card = catalog.source(name)
    if card.published is not None:
        return fetch_published(card, catalog, on_progress, mirror=mirror, replace=replace)
    if card.weights is not None:
        was_here = convert_own(card, catalog, replace=replace) is None
        load_source(card)
        return described(weights_path(card), was_here=was_here)
    release = _release(card)
    path = weights_path(card)
    target = weights_directory() / "downloads" / card.file_stem / release.file  # others may have a file of that name
    urls = (f"{mirror.rstrip('/')}/{release.file}",) if mirror else release.urls
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name("source.lock")):  # one process fetches while the others wait
            if path.is_file() and not replace:
                return _verified(card, release, path)
            download(urls, target, sha256=release.sha256, size=release.size, on_progress=on_progress)
            try:
                require_prefix(target, release.sha256_prefix, release.known_from)
                convert_source(target, name, catalog, replace=replace, url=urls[0], must_be=release.format)
            finally:
                target.unlink(missing_ok=True)
    return described(path, was_here=False)


def _release(card: SourceCard) -> Release:
    if card.release is None:
        remedy = "it needs no file" if card.bundled or card.random else f"train it with: {how_to_get(card)}"
        raise InvalidRequest(
            Code.WRONG_VALUE, f"source {card.name!r} is not published as a file; {remedy}", key="source"
        )
    return card.release


def _verified(card: SourceCard, release: Release, path: Path) -> Fetched:
    """Check the local weights against their card, and the file they came from against the catalogue."""
    load_source(card)
    found = described(path, was_here=True)
    known = release.sha256 or release.sha256_prefix
    if known and not found.original_sha256.startswith(known):
        raise InvalidRequest(
            Code.OTHER_DIGEST,
            f"{path} was converted from a file with the sha256 {found.original_sha256}; the file published as "
            f"{card.name!r} has {known}. Fix: --replace fetches that file",
            file=path,
            key="--replace",
        )
    original = (read_card(path) or {}).get("original") or {}
    if not known and original.get("file") not in (None, release.file):
        raise InvalidRequest(
            Code.OTHER_DIGEST,
            f"{path} was converted from {original['file']}, but {card.name!r} is published as {release.file}; it may "
            "be another study's source of the same name. Fix: --replace fetches that file",
            file=path,
            key="--replace",
        )
    return found
