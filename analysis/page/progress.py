"""What was run and how far it is: the recorded studies against the finished trials."""

from itertools import product
from typing import Any, NamedTuple

import pandas as pd
import yaml

from jobs.registry import datasets
from jobs.results import StudyRecord
from jobs.specs import ALL, Recipe, recipe_digest

KEYS = ["source", "dataset", "blocks", "images", "seed", "epochs", "evaluate_every", "recipe"]
_FIRST_SEED, _SEED_STEP = 20_000_000, 100_000  # formula (6) of the paper


class Progress(NamedTuple):
    """How far a study is in this root."""

    study: str
    digest: str
    description: str
    planned: int
    done: int
    contrasts: tuple[str, ...]


def progress(record: StudyRecord, trials: pd.DataFrame) -> Progress:
    """The trials of a recorded study, and how many of them are finished.

    Args:
        trials: one row a finished trial of our own.
    """
    study = yaml.safe_load(record.text)
    planned = pd.DataFrame(_expanded(study), columns=KEYS).drop_duplicates()
    done = planned.merge(trials[KEYS].drop_duplicates(), on=KEYS, how="inner")
    contrasts = tuple(f"{one.source} minus {one.baseline}, blocks {_listed(one.blocks)}" for one in record.contrasts)
    return Progress(record.name, record.digest, study.get("description", ""), len(planned), len(done), contrasts)


def _expanded(study: dict[str, Any]) -> list[tuple[object, ...]]:
    """Every trial of a resolved study, as the keys that tell trials apart."""
    grid, recipe = study["grid"], recipe_digest(Recipe(**study["recipe"]))
    points = list(product(grid["source"], grid["dataset"], grid["blocks"]))
    return [
        (*point, _size(point[1], images), _FIRST_SEED + _SEED_STEP * i, row["epochs"], row["evaluate_every"], recipe)
        for row in study["schedule"]
        for images in row["images"]
        for i in range(row["seeds"])
        for point in points
    ]


def _size(dataset: str, images: int) -> int:
    """A size equal to the whole set is -1 (design, section 1)."""
    card = datasets().get(dataset)
    return ALL if card is not None and images == card.train else images


def _listed(values: tuple[int, ...]) -> str:
    return ", ".join(str(value) for value in values)
