"""What a recorded study plans: its trials, and the cells of the contrasts that it declared."""

from itertools import product
from typing import Any

import yaml

from jobs.registry import datasets
from jobs.results import StudyRecord
from jobs.specs import ALL, Recipe, recipe_digest

TRIAL = ("source", "dataset", "blocks", "images", "seed", "epochs", "evaluate_every", "recipe")
"""The keys that tell the trials of a study apart."""

CELL = ("dataset", "images", "epochs", "recipe")
"""What the cells of a study's contrasts have from the study itself."""

PLACE = ("source", "dataset", "blocks", "images", "epochs", "recipe")
"""The points of a study's grid and schedule, whatever their seeds."""

_FIRST_SEED, _SEED_STEP = 20_000_000, 100_000  # formula (6) of the paper


def planned_trials(study: dict[str, Any]) -> list[tuple[object, ...]]:
    """Every trial of a resolved study, as its values of ``TRIAL``."""
    grid, recipe = study["grid"], recipe_digest(Recipe(**study["recipe"]))
    points = list(product(grid["source"], grid["dataset"], grid["blocks"]))
    return [
        (*point, _size(point[1], images), _FIRST_SEED + _SEED_STEP * i, row["epochs"], row["evaluate_every"], recipe)
        for row in study["schedule"]
        for images in row["images"]
        for i in range(row["seeds"])
        for point in points
    ]


def planned_cells(record: StudyRecord) -> frozenset[tuple[object, ...]]:
    """The cells of a recorded study, as its values of ``CELL``."""
    return _planned(record, CELL)


def planned_places(record: StudyRecord) -> frozenset[tuple[object, ...]]:
    """The points of a recorded study, as its values of ``PLACE``."""
    return _planned(record, PLACE)


def _planned(record: StudyRecord, names: tuple[str, ...]) -> frozenset[tuple[object, ...]]:
    indices = [TRIAL.index(name) for name in names]
    return frozenset(tuple(trial[index] for index in indices) for trial in planned_trials(yaml.safe_load(record.text)))


def _size(dataset: str, images: int) -> int:
    """A size equal to the whole set is -1 (design, section 1)."""
    card = datasets().get(dataset)
    return ALL if card is not None and images == card.train else images
