"""Where the weights of source models lie on this machine, and what their cards say. No torch."""

from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from jobs import registry
from jobs.errors import Code, DamagedFile
from jobs.files import read_file
from jobs.home import weights_directory
from jobs.registry import AttackAccuracy, SourceCard

_MOST_BYTES = 10_000_000
"""Of a card; those that are written have some ten thousand."""


class Standing(StrEnum):
    """How a source stands on this machine."""

    BUNDLED = "part of the package"
    DRAWN = "needs no file"
    FETCHED = "fetched"
    CONVERTED = "converted"
    TRAINED = "trained"
    UNDOCUMENTED = "here, without a card"
    MISSING = "missing"


def bundled_directory() -> Path:
    """The folder of the package with the miniature's weights."""
    return Path(str(resources.files("jobs").joinpath("bundled")))


def weights_path(name: str) -> Path:
    """Where a source's weights lie or would lie; the source must be in the registry."""
    directory = bundled_directory() if registry.source(name).bundled else weights_directory()
    return directory / f"{name}.safetensors"


class _Original(BaseModel):
    """The file that a source was converted from."""

    model_config = ConfigDict(extra="allow")

    sha256: str
    known_beforehand: str
    file: str | None = None
    url: str | None = None


class _Facts(BaseModel):
    """What of a card is read again; the rest is for people."""

    model_config = ConfigDict(extra="allow")

    sha256: str
    original: _Original | None = None
    clean_accuracy: float | None = Field(default=None, ge=0, le=100)
    adversarial_accuracy: tuple[AttackAccuracy, ...] = ()


def read_card(weights: Path) -> dict[str, Any] | None:
    """What the card beside a source's weights says; None when there is no card.

    Raises:
        DamagedFile: when it cannot be read, or what is read of it again is of another type.
    """
    path = weights.with_suffix(".json")
    if not path.is_file():
        return None
    try:
        return _Facts.model_validate_json(read_file(path, _MOST_BYTES)).model_dump(exclude_unset=True)
    except (ValueError, OSError) as error:
        raise DamagedFile(
            Code.DAMAGED_RECORD,
            f"{path} is not the card of a source model ({error}); fetch or train the source again",
            file=path,
        ) from error


def standing(card: SourceCard) -> Standing:
    """Whether a source can be used here, by its files' names and card; nothing is loaded or verified."""
    if card.bundled:
        return Standing.BUNDLED
    if card.random:
        return Standing.DRAWN
    path = weights_path(card.name)
    if not path.is_file():
        return Standing.MISSING
    facts = read_card(path)
    if facts is None:
        return Standing.UNDOCUMENTED
    original = facts.get("original")
    if original is None:
        return Standing.TRAINED
    return Standing.FETCHED if original.get("url") else Standing.CONVERTED
