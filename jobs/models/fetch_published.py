"""Fetch weights that torchvision or timm publish, by name, and write the card of the source that they are.

The first fetch pins the file: its digest is in the card that it returns, and every later fetch by that card, on any
machine, refuses another file.
"""

import dataclasses
import glob
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from jobs.catalog.catalog import Catalog, packaged_sources
from jobs.catalog.source_card import SourceCard, stem_of
from jobs.errors import Code, DamagedFile, InvalidRequest
from jobs.models.conversion import convert_source
from jobs.models.fetched import Fetched, described, require_prefix, sha256_of
from jobs.models.hub_files import get_from_hub
from jobs.models.published import FileAtUrl, PublishedWeights, published_weights
from jobs.models.weight_files import read_card, weights_path
from jobs.models.weights import load_source
from jobs.paths import weights_directory
from jobs.specs.base import NAME_PATTERN
from jobs.specs.threat_model import Constraint
from jobs.system import safe_yaml
from jobs.system.commands import command
from jobs.system.download import Progress, download, writing


class _File(NamedTuple):
    """A published file that is on this machine."""

    path: Path
    url: str
    published: str
    """The name of the weights, with the commit for those on the hub."""
    known_beforehand: str


def fetch_by_name(
    published: str,
    source: str | None,
    catalog: Catalog,
    on_progress: Progress,
    *,
    mirror: str | None = None,
    replace: bool = False,
) -> tuple[SourceCard, Fetched]:
    """Fetch published weights by their name alone. If they were fetched before, only verify them.

    Args:
        published: ``torchvision:NAME.WEIGHTS`` or ``timm:NAME[.TAG]``.
        source: the name of the source; None: the part after the colon, in small letters.
        catalog: the known architectures and datasets.
        mirror: URL of a folder that contains torchvision's file.
        replace: fetch them again, also if the file of that name is now another one.

    Returns:
        The card for a study's `sources`, and what was fetched.

    Raises:
        InvalidRequest: if there are no such weights, or their network is not a known architecture.
        MissingData, DamagedFile, StorageFailure: see ``jobs.models.fetch.fetch_source``.
    """
    about = published_weights(published)
    name = source or about.name.partition(":")[2].partition("@")[0].lower()
    if name in packaged_sources() or not re.fullmatch(NAME_PATTERN, name):
        wrong = "the name of a packaged source" if name in packaged_sources() else f"not of the form {NAME_PATTERN}"
        raise InvalidRequest(Code.WRONG_NAME, f"{name!r} is {wrong}. Fix: choose another name with --as", key="--as")
    architecture = _architecture(about, catalog)
    with _alone(about):
        if not replace and (card := _fetched_before(about, name, architecture)) is not None:
            load_source(card)
            return card, described(weights_path(card), was_here=True)
        with _published_file(about, None, on_progress, mirror) as file:
            card = _card(about, name, architecture, file.published, sha256_of(file.path))
            path = _converted(file, card, catalog)
        return card, described(path, was_here=False)


def fetch_published(
    card: SourceCard, catalog: Catalog, on_progress: Progress, *, mirror: str | None = None, replace: bool = False
) -> Fetched:
    """Fetch the published weights of a study's source. If they are present, only verify them.

    Raises:
        InvalidRequest, MissingData, DamagedFile, StorageFailure: see ``jobs.models.fetch.fetch_source``.
    """
    about, path = published_weights(str(card.published)), weights_path(card)
    with _alone(about):
        if path.is_file() and not replace:
            load_source(card)
            return described(path, was_here=True)
        with _published_file(about, card.weights_sha256, on_progress, mirror) as file:
            _converted(file._replace(known_beforehand="sha256 as in the study"), card, catalog)
    return described(path, was_here=False)


def card_text(cards: Sequence[SourceCard]) -> str:
    """Return sources' cards as they are written in a study file."""
    fields = {card.name: card.model_dump(mode="json", exclude_defaults=True, exclude={"name"}) for card in cards}
    return safe_yaml.dump({"sources": fields}, width=1000)


def _architecture(about: PublishedWeights, catalog: Catalog) -> str:
    known = {architecture.builder: name for name, architecture in sorted(catalog.architectures.items(), reverse=True)}
    if about.builder in known:
        return known[about.builder]
    listed = sorted(builder for builder in known if builder.startswith(("torchvision:", "timm:")))
    raise InvalidRequest(
        Code.UNKNOWN_NAME,
        f"expected weights of a known architecture, one of {', '.join(listed)}; got {about.name}, of {about.builder}. "
        f"Fix: describe that network with: {command('models', 'describe', about.builder)}; copy its card to a study, "
        "and add --study STUDY",
        key="NAME",
    )


def _card(about: PublishedWeights, name: str, architecture: str, published: str, sha256: str) -> SourceCard:
    return SourceCard(
        name=name,
        architecture=architecture,
        trained_on=about.trained_on,
        constraint=Constraint.NONE,
        epsilon=0,
        mean=about.mean,
        std=about.std,
        licence=about.licence,
        expected=about.expected,
        published=published,
        weights_sha256=sha256,
    )


def _fetched_before(about: PublishedWeights, name: str, architecture: str) -> SourceCard | None:
    """Return the card of the weights of that name on this machine; of several, those that were fetched last."""
    folder = weights_directory()
    beside = sorted(folder.glob(f"{glob.escape(stem_of(about.name))}-*.json"), key=lambda path: path.stat().st_mtime)
    for path in reversed(beside):
        original = (read_card(path) or {}).get("original") or {}
        published = original.get("published") or ""
        if about.name not in (published, published.partition("@")[0]):
            continue
        card = _card(about, name, architecture, published, original["sha256"])
        if weights_path(card) == path.with_suffix(".safetensors") and weights_path(card).is_file():
            return card
    return None


@contextmanager
def _alone(about: PublishedWeights) -> Iterator[None]:
    """Let one process fetch these weights while the others wait."""
    lock = FileLock(weights_directory() / f"{stem_of(about.name)}.lock")
    with writing(weights_directory()):
        weights_directory().mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _published_file(
    about: PublishedWeights, sha256: str | None, on_progress: Progress, mirror: str | None
) -> Iterator[_File]:
    """Yield the file on this machine; one that was downloaded for this is removed afterwards."""
    unknown = "no digest was known: this file is trusted on first use"
    if not isinstance(about.file, FileAtUrl):
        if mirror is not None:
            raise InvalidRequest(
                Code.WRONG_VALUE,
                f"expected --mirror only for files at a fixed address; {about.name} is on the hub. Fix: set "
                "HF_ENDPOINT to the mirror of the hub",
                key="--mirror",
            )
        found = get_from_hub(about.file.repository, about.file.names, about.file.commit, about.name)
        _require_announced(found.path, found.sha256)
        known = unknown if found.sha256 is None else f"sha256 {found.sha256} (the hub)"
        yield _File(found.path, found.url, f"{about.name.partition('@')[0]}@{found.commit}", known)
        return
    target = weights_directory() / "downloads" / stem_of(about.name) / about.file.name
    url = f"{mirror.rstrip('/')}/{about.file.name}" if mirror else about.file.url
    prefix, known_from = about.file.sha256_prefix, "torchvision, in the file's name"
    with writing(target):
        download([url], target, sha256=sha256, on_progress=on_progress)
    try:
        require_prefix(target, prefix, known_from)
        yield _File(target, url, about.name, f"sha256 {prefix} ({known_from})" if prefix else unknown)
    finally:
        target.unlink(missing_ok=True)


def _require_announced(path: Path, sha256: str | None) -> None:
    if sha256 is not None and (found := sha256_of(path)) != sha256:
        places = " and ".join(map(str, _with_targets(path)))
        raise DamagedFile(
            Code.DAMAGED_DOWNLOAD,
            f"expected {path} to have the sha256 that the hub announced, {sha256}; got {found}. Fix: remove "
            f"{places}, and run the command again",
            file=path,
        )


def _with_targets(path: Path) -> list[Path]:
    """Return a path, and what it links to: while that is there, the hub's library does not download the file again."""
    if not path.is_symlink():
        return [path]
    target = path.parent / path.readlink()
    return [path, *_with_targets(target.parent.resolve() / target.name)]


def _converted(file: _File, card: SourceCard, catalog: Catalog) -> Path:
    own = catalog.own.model_copy(update={"sources": {**catalog.own.sources, card.name: card}})
    return convert_source(
        file.path,
        card.name,
        dataclasses.replace(catalog, own=own),
        replace=True,
        url=file.url,
        known_beforehand=file.known_beforehand,
    )
