"""Paths of a study's own files: where relative ones start."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.catalog.card import Card
from jobs.catalog.dataset_card import DatasetCard
from jobs.catalog.source_card import SourceCard
from jobs.paths import require_utf8


def with_absolute_paths(
    sources: Mapping[str, SourceCard], datasets: Mapping[str, DatasetCard], folder: Path
) -> dict[str, dict[str, Any]]:
    """Return both with absolute paths of checkpoint files and image folders, under ``sources`` and ``datasets``.

    No trial id depends on them.

    Args:
        folder: where relative paths start.

    Raises:
        InvalidRequest: if a path is not in UTF-8, because ``folder`` is not: records of the study could not be read.
    """
    return {
        "sources": {name: _absolute(card, "weights", folder) for name, card in sources.items()},
        "datasets": {name: _absolute(card, "folder", folder) for name, card in datasets.items()},
    }


def _absolute(card: Card, key: str, folder: Path) -> Card:
    path = getattr(card, key)
    if path is None:
        return card
    require_utf8(found := absolute(path, folder))
    return card.model_copy(update={key: str(found)})


def absolute(path: str, folder: Path) -> Path:
    """Return an absolute path; links stay as they are, since they may lead elsewhere on other machines."""
    home = path.startswith("~/") and path.replace("~", os.environ.get("HOME", "~"), 1)
    return Path(os.path.abspath(folder / (home or path)))  # noqa: PTH100  # resolve() would follow links
