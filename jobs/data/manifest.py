"""The record of ``data fetch``: the digest of a dataset on this machine, stored next to its files."""

import hashlib
from pathlib import Path

from pydantic import BaseModel

from jobs.catalog.catalog import how_to_fetch
from jobs.catalog.dataset_card import DatasetCard
from jobs.data.locate import own_directory
from jobs.errors import Code, DamagedFile, reading_failure
from jobs.system.files import read_file, write_files

_FILE = "fetched.json"


class Fetched(BaseModel):
    """The digest of the images before resizing, and the digest of each file by its path relative to the directory."""

    sha256: str
    files: dict[str, str]


def is_recorded(card: DatasetCard) -> bool:
    return (own_directory(card) / _FILE).is_file()


def record_fetched(card: DatasetCard, directory: Path, sha256: str) -> None:
    """Record that the dataset has the digest ``sha256`` on this machine; the record is written atomically."""
    target = own_directory(card) / _FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    fetched = Fetched(sha256=sha256, files=_digests(directory))
    write_files({target: fetched.model_dump_json(indent=1).encode()})


def require_fetched(card: DatasetCard, directory: Path, sha256: str) -> None:
    """Compare a dataset that was read with the record of its fetch, if there is one.

    Raises:
        DamagedFile: if it differs, naming the changed files; or if the record cannot be read.
        StorageFailure: if the disk fails.
    """
    path = own_directory(card) / _FILE
    if not is_recorded(card):
        return
    try:
        fetched = Fetched.model_validate_json(read_file(path))
    except (OSError, ValueError) as error:
        damaged = DamagedFile(
            Code.DAMAGED_RECORD,
            f"{path} cannot be read. Fix: remove it and run: {how_to_fetch(card)}",
            file=path,
        )
        raise reading_failure(error, path, damaged) from error
    if fetched.sha256 == sha256:
        return
    now = _digests(directory)
    changed = sorted(name for name in now.keys() | fetched.files.keys() if now.get(name) != fetched.files.get(name))
    raise DamagedFile(
        Code.DAMAGED_DATA,
        f"dataset {card.name!r} had the digest {fetched.sha256} when it was fetched; the files in {directory} now have "
        f"{sha256}. Changed files: {', '.join(changed[:5])}{', ...' if len(changed) > 5 else ''}. "
        f"Fix: remove the changed files and run: {how_to_fetch(card)}",
        file=directory,
    )


def _digests(directory: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_file() and not name.startswith(".") and path.suffix not in (".lock", ".part") and name != _FILE:
            with path.open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
