"""What ``data fetch`` verified: the digest that a dataset's name stands for on this machine, kept beside its files."""

import hashlib
from pathlib import Path

from pydantic import BaseModel, ValidationError

from jobs.data.places import own_directory
from jobs.errors import Code, DamagedFile
from jobs.registry import DatasetCard

_FILE = "fetched.json"


class Fetched(BaseModel):
    """The digest of the images before resizing, and that of each file, by its path below the directory."""

    sha256: str
    files: dict[str, str]


def is_recorded(card: DatasetCard) -> bool:
    return (own_directory(card) / _FILE).is_file()


def record_fetched(card: DatasetCard, directory: Path, sha256: str) -> None:
    """Hold from now on that the dataset stands for ``sha256`` here. Written whole or not at all."""
    target = own_directory(card) / _FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{_FILE}.part")
    part.write_text(Fetched(sha256=sha256, files=_digests(directory)).model_dump_json(indent=1), encoding="utf-8")
    part.replace(target)


def require_fetched(card: DatasetCard, directory: Path, sha256: str) -> None:
    """Hold a dataset that was read against the record of its fetch, if there is one.

    Raises:
        DamagedFile: when it is another, naming the files that changed; or when the record cannot be read.
    """
    path = own_directory(card) / _FILE
    if not is_recorded(card):
        return
    try:
        fetched = Fetched.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, ValidationError) as error:
        raise DamagedFile(
            Code.DAMAGED_RECORD,
            f"{path} cannot be read; remove it and run: deltasweep data fetch {card.name}",
            file=path,
        ) from error
    if fetched.sha256 == sha256:
        return
    now = _digests(directory)
    changed = sorted(name for name in now.keys() | fetched.files.keys() if now.get(name) != fetched.files.get(name))
    raise DamagedFile(
        Code.DAMAGED_DATA,
        f"dataset {card.name!r} had the digest {fetched.sha256} when it was fetched; now the files in {directory} give "
        f"{sha256}. Changed since: {', '.join(changed[:5])}{', ...' if len(changed) > 5 else ''}. "
        f"Remove what changed and run: deltasweep data fetch {card.name}",
        file=directory,
    )


def _digests(directory: Path) -> dict[str, str]:
    found = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_file() and not name.startswith(".") and path.suffix not in (".lock", ".part") and name != _FILE:
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
