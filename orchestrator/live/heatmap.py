"""The heat map: the cells of a study's grid, and how many of the trials of each are in which state."""

from collections import Counter
from itertools import groupby
from typing import NamedTuple

from jobs.specs.base import ALL
from orchestrator.live.studies import Place, Planned, Standing

LEVELS = 10


class Cell(NamedTuple):
    """The trials of a cell, which differ only in their seeds."""

    place: Place
    planned: int
    done: int
    running: int
    failed: int
    """Failed, quarantined or damaged."""

    @property
    def level(self) -> int:
        """The share that is done, from 0 (none) to ``LEVELS`` (all); a cell that is begun is above 0, an unfinished
        one below ``LEVELS``."""
        if self.done in (0, self.planned):
            return LEVELS if self.done else 0
        return min(max(round(LEVELS * self.done / self.planned), 1), LEVELS - 1)


class Row(NamedTuple):
    source: str
    blocks: int
    rows_of_source: int
    """The number of rows of the source in its first row, else 0."""
    cells: list[Cell | None]
    """One per column; None where the study plans no trial."""


class HeatMap(NamedTuple):
    """Rows are source and blocks, columns dataset and images."""

    datasets: list[tuple[str, int]]
    """Each dataset with its number of columns."""
    columns: list[tuple[str, int]]
    rows: list[Row]


def heat_map(plan: Planned, now: Standing, recipe: str) -> HeatMap:
    """Count the trials of the grid by cell and state.

    Args:
        recipe: the digest of one of the grid's recipes.
    """
    places = plan.places.get(recipe, {})
    planned = Counter(places.values())
    done, running, failed = (
        Counter(places[trial] for trial in trials if trial in places)
        for trials in (now.done, now.running, now.not_well)
    )
    columns = sorted({(place.dataset, place.images) for place in planned}, key=lambda one: _column_order(plan, *one))
    lines = sorted(
        {(place.source, place.blocks) for place in planned}, key=lambda one: (plan.sources.index(one[0]), _last(one[1]))
    )
    many = Counter(source for source, _ in lines)
    rows: list[Row] = []
    for source, blocks in lines:
        first = not rows or rows[-1].source != source
        cells = [
            Cell(place, planned[place], done[place], running[place], failed[place]) if place in planned else None
            for place in (Place(source, blocks, dataset, images) for dataset, images in columns)
        ]
        rows.append(Row(source, blocks, many[source] if first else 0, cells))
    datasets = [(dataset, len(list(of))) for dataset, of in groupby(dataset for dataset, _ in columns)]
    return HeatMap(datasets, columns, rows)


def _column_order(plan: Planned, dataset: str, images: int) -> tuple[int, float]:
    return plan.datasets.index(dataset), _last(images)


def _last(number: int) -> float:
    """Sort -1, which stands for all, behind every number."""
    return float("inf") if number == ALL else number


class OfKind(NamedTuple):
    """The trials of a kind beside the grid."""

    kind: str
    planned: int
    done: int
    running: int
    failed: int


def other_kinds(plan: Planned, now: Standing) -> list[OfKind]:
    """Count the trials that are not of the grid, by kind."""
    others = {trial: spec.kind for trial, spec in plan.specs.items() if trial not in plan.tuned}
    planned = Counter(others.values())
    done, running, failed = (
        Counter(others[trial] for trial in trials if trial in others)
        for trials in (now.done, now.running, now.not_well)
    )
    return [OfKind(kind, count, done[kind], running[kind], failed[kind]) for kind, count in planned.items()]
