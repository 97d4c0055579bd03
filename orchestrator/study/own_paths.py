"""Paths of a study's own files: where relative ones start."""

import os
from pathlib import Path

from jobs.catalog.dataset_card import DatasetCard
from jobs.catalog.source_card import SourceCard
from jobs.study.model import Study


def with_absolute_paths(study: Study, folder: Path) -> Study:
    """Return the study with absolute paths of checkpoint files and image folders; relative ones start in ``folder``.

    No trial id depends on them.
    """
    sources: dict[str, SourceCard] = {
        name: card.model_copy(update={"weights": str(absolute(card.weights, folder))})
        for name, card in study.sources.items()
        if card.weights is not None
    }
    datasets: dict[str, DatasetCard] = {
        name: card.model_copy(update={"folder": str(absolute(card.folder, folder))})
        for name, card in study.datasets.items()
        if card.folder is not None
    }
    if not sources and not datasets:
        return study
    return study.model_copy(
        update={"sources": {**study.sources, **sources}, "datasets": {**study.datasets, **datasets}}
    )


def absolute(path: str, folder: Path) -> Path:
    """Return an absolute path; links stay as they are, since they may lead elsewhere on other machines."""
    home = path.startswith("~/") and path.replace("~", os.environ.get("HOME", "~"), 1)
    return Path(os.path.abspath(folder / (home or path)))  # noqa: PTH100  # resolve() would follow links
