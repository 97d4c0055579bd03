"""Deltas of the trials so far, and learning curves of one cell."""

from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from analysis.evaluations.frames import HEADLINE_BLOCKS, frame
from analysis.evaluations.recipes import recipe_choices, recipe_words
from analysis.paired.cells import summarize
from analysis.paired.contrasts import Comparison, Declared, Family, comparisons
from analysis.paired.contrasts import Planned as Contrasted
from analysis.paired.pairing import KEYS, pair_all
from analysis.statistics.paired_t import ROUNDING
from jobs.errors import DeltaSweepError
from jobs.specs.base import ALL
from orchestrator.live.contents import Contents, Evaluated
from orchestrator.live.heatmap import HeatMap
from orchestrator.live.studies import Planned, Standing

_CURVE = ("source", "baseline", "dataset", "blocks", "recipe", "numerics", "origin")


_ROW = Evaluated._fields


class Delta(NamedTuple):
    """Source minus baseline in one cell, in percentage points, over the pairs that are finished."""

    source: str
    baseline: str
    dataset: str
    images: int
    epoch: int
    mean: float
    low: float
    """NaN, as ``high``, below two pairs."""
    high: float
    pairs: int
    unpaired: int
    method: str
    """How the interval was computed, with its cautions."""

    @property
    def equal(self) -> bool:
        """Whether all differences are equal, so that the interval has no width. It is then not a precise one."""
        return self.high - self.low < ROUNDING


class Deltas(NamedTuple):
    blocks: int
    comparisons: list[Comparison]
    cells: list[Delta]
    why_none: str


def deltas(contents: Contents, plan: Planned, now: Standing, recipe: str, blocks: int) -> Deltas:
    """Return the deltas at the last epoch for one depth, paired by seed, of a study's finished trials.

    Neither p-values nor corrections are computed: a study that is still running is looked at many times.
    """
    rows = [
        _last(one)
        for trial, one in contents.evaluations.items()
        if one.blocks == blocks and one.recipe == recipe and one.epoch[-1] == one.epochs and trial in now.done
    ]
    data = frame(pa.table([[row[at] for row in rows] for at in range(len(_ROW))], list(_ROW)))
    try:
        chosen = _chosen(data, plan)
        if not chosen:
            return Deltas(blocks, [], [], "" if data.empty else _no_comparison(data, plan))
        pairs, counts = pair_all(data, chosen)
        cells = summarize(pairs, counts, KEYS, _CURVE, 0.95)
    except DeltaSweepError as error:
        return Deltas(blocks, [], [], str(error))
    return Deltas(blocks, chosen, _in_order(cells, plan), "")


def _chosen(data: pd.DataFrame, plan: Planned) -> list[Comparison]:
    """Return the comparisons of the contrasts without a family name, which are the study's headlines; without such
    contrasts, those of all sources with the baseline that follows from the data.
    """
    if data.empty:
        return []
    contrasts = plan.study.contrasts
    known = Declared((Family(plan.study.name, None, tuple(Contrasted(one, frozenset()) for one in contrasts)),))
    every = comparisons(data, None, known, required=False)
    own = {Comparison(one.source, one.baseline) for one in contrasts if one.family is None}
    return [one for one in every if one in own] or every


def _no_comparison(data: pd.DataFrame, plan: Planned) -> str:
    declared = {name for one in plan.study.contrasts for name in (one.source, one.baseline)}
    missing = [name for name in plan.sources if name in declared - {*data["source"]}]
    if missing:
        return f"No pair yet: no trial of {', '.join(missing)} has finished."
    return "No source here is the baseline of another one."


def _in_order(cells: pd.DataFrame, plan: Planned) -> list[Delta]:
    names = (
        "source",
        "baseline",
        "dataset",
        "images",
        "epoch",
        "mean_delta",
        "ci_low",
        "ci_high",
        "n_pairs",
        "n_unpaired",
        "method",
    )
    found = [Delta(*values) for values in cells[list(names)].itertuples(index=False, name=None)]
    sources, datasets = ({name: place for place, name in enumerate(names)} for names in (plan.sources, plan.datasets))
    return sorted(
        found,
        key=lambda one: (
            datasets.get(one.dataset, 0),
            one.baseline,
            sources.get(one.source, 0),
            one.images == ALL,
            one.images,
            one.epoch,
        ),
    )


def depths(plan: Planned) -> list[int]:
    """Return the fine-tuned depths of the grid; the first is the headline's: that of the first contrast, or 3."""
    present = sorted({spec.blocks for spec in plan.tuned.values()}, key=lambda blocks: (blocks == ALL, blocks))
    declared_first = [depth for contrast in plan.study.contrasts for depth in contrast.blocks]
    first = next((depth for depth in (*declared_first, HEADLINE_BLOCKS, *reversed(present)) if depth in present), None)
    return [] if first is None else [first, *(depth for depth in present if depth != first)]


class Curve(NamedTuple):
    """The test accuracy of a trial, or the mean over the finished trials of a source, in percent by epoch."""

    source: str
    points: list[tuple[int, float]]
    trial_id: str = ""
    """Empty: a mean."""
    running: bool = False
    trials: int = 1


def curves(contents: Contents, plan: Planned, now: Standing, recipe: str, cell: tuple[str, int, int]) -> list[Curve]:
    """Return the curves of all sources in a cell: each finished trial, the means, and running trials so far.

    Args:
        cell: dataset, images, blocks.
    """
    dataset, images, blocks = cell
    places = {trial: of for trial, of in plan.places.get(recipe, {}).items() if of[1:] == (blocks, dataset, images)}
    found = [
        Curve(place.source, [*zip(one.epoch, one.test_accuracy, strict=True)], trial)
        for trial, place in sorted(places.items())
        if trial in now.done and (one := contents.evaluations.get(trial)) is not None
    ]
    for source in plan.sources:
        means = _mean([curve.points for curve in found if curve.source == source])
        if means:
            found.append(Curve(source, means, trials=sum(one.source == source for one in found)))
    for trial in sorted(now.running & places.keys()):
        if (progress := contents.running.get(trial)) is not None:
            found.append(Curve(places[trial].source, points_of(progress.evaluations), trial, running=True))
    return found


def points_of(evaluations: tuple[dict[str, object], ...]) -> list[tuple[int, float]]:
    """Return epoch and test accuracy of the rows in a checkpoint; rows of a stranger that have none are left out."""
    pairs = ((row.get("epoch"), row.get("test_accuracy")) for row in evaluations)
    return [
        (epoch, float(value))
        for epoch, value in pairs
        if isinstance(epoch, int) and isinstance(value, int | float) and 0 <= value <= 100
    ]


def _mean(curves: list[list[tuple[int, float]]]) -> list[tuple[int, float]]:
    """Return the mean at the epochs that every trial has evaluated."""
    if not curves:
        return []
    common = set.intersection(*({epoch for epoch, _ in points} for points in curves))
    values = [dict(points) for points in curves]
    return [(epoch, sum(of[epoch] for of in values) / len(values)) for epoch in sorted(common)]


def first_cell(heat: HeatMap, headline: int) -> tuple[str, int, int] | None:
    """Return the cell whose curves are shown if none is chosen: dataset, images and blocks.

    The first one, in the order of the heat map, in which most sources have a finished trial; if possible, at the
    headline depth.
    """
    sources: dict[tuple[str, int, int], int] = {}
    for row in heat.rows:
        for cell in row.cells:
            if cell is not None:
                key = cell.place.dataset, cell.place.images, cell.place.blocks
                sources[key] = sources.get(key, 0) + (cell.done > 0)
    return max(sources, key=lambda key: (sources[key], key[2] == headline), default=None)


def recipe_names(contents: Contents, plan: Planned) -> dict[str, str]:
    """Describe the grid's recipes by the choices in which they differ; the digest where that is unknown."""
    if len(plan.recipes) < 2:
        return {digest: digest for digest in plan.recipes}
    recorded = pa.table({"recipe": list(contents.recipes), "recipe_json": list(contents.recipes.values())})
    known = recipe_words(recipe_choices(recorded))
    return {digest: known.get(digest, digest) for digest in plan.recipes}


def _last(one: Evaluated) -> tuple[object, ...]:
    """Return the last evaluation of a trial as a row."""
    return (*one[:-2], one.epoch[-1], one.test_accuracy[-1])
