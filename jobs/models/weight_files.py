"""Locations of source models' weights on this machine, and their cards. No torch."""

from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from jobs.catalog.source_card import AttackAccuracy, SourceCard
from jobs.errors import Code, DamagedFile, reading_failure
from jobs.paths import weights_directory
from jobs.system.files import read_file

_MOST_BYTES = 10_000_000
"""Maximum size of a card; those written by DeltaSweep have about ten thousand bytes."""


class Standing(StrEnum):
    """State of a source on this machine."""

    BUNDLED = "part of the package"
    DRAWN = "needs no file"
    FETCHED = "fetched"
    CONVERTED = "converted"
    TRAINED = "trained"
    UNDOCUMENTED = "here, without a card"
    AS_FILE = "a checkpoint file, converted when it is first used"
    MISSING = "missing"


def bundled_directory() -> Path:
    """Return the package's folder with the miniature's weights."""
    return Path(str(resources.files(__package__).joinpath("bundled")))


def weights_path(source: SourceCard) -> Path:
    """Return the path of a source's weights, whether or not the file exists."""
    directory = bundled_directory() if source.bundled else weights_directory()
    return directory / f"{source.file_stem}.safetensors"


class _Original(BaseModel):
    """The file that a source was converted from."""

    model_config = ConfigDict(extra="allow")

    sha256: str
    known_beforehand: str
    file: str | None = None
    url: str | None = None
    published: str | None = None


class _Facts(BaseModel):
    """The fields of a card that are read back; all others are only informative."""

    model_config = ConfigDict(extra="allow")

    sha256: str
    original: _Original | None = None
    clean_accuracy: float | None = Field(default=None, ge=0, le=100)
    adversarial_accuracy: tuple[AttackAccuracy, ...] = ()


def read_card(weights: Path) -> dict[str, Any] | None:
    """Return the card beside a source's weights; None if there is none.

    Raises:
        DamagedFile: if it cannot be read, or a field that is read back has the wrong type.
        StorageFailure: if the disk fails.
    """
    path = weights.with_suffix(".json")
    if not path.is_file():
        return None
    try:
        return _Facts.model_validate_json(read_file(path, _MOST_BYTES)).model_dump(exclude_unset=True)
    except (ValueError, OSError) as error:
        damaged = DamagedFile(
            Code.DAMAGED_RECORD,
            f"expected the card of a source model; cannot read {path} ({error}). Fix: fetch or train the source again",
            file=path,
        )
        raise reading_failure(error, path, damaged) from error


def standing(card: SourceCard) -> Standing:
    """Return the state of a source from its files' names and its card; nothing is loaded or verified."""
    if card.bundled:
        return Standing.BUNDLED
    if card.random:
        return Standing.DRAWN
    path = weights_path(card)
    if not path.is_file():
        return Standing.AS_FILE if card.weights and Path(card.weights).is_file() else Standing.MISSING
    facts = read_card(path)
    if facts is None:
        return Standing.UNDOCUMENTED
    original = facts.get("original")
    if original is None:
        return Standing.TRAINED
    return Standing.FETCHED if original.get("url") else Standing.CONVERTED
