"""Interactive curves: controls, four charts, and their data for the page's script."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import pandas as pd

from analysis.evaluations.frames import headline_blocks, shared_blocks, whole_last
from analysis.figures.drawing.style import COLOURS, MARKERS, Look, ordered
from analysis.page.payload import payload, shown_pairs, too_many
from analysis.page.results import Results, variants
from analysis.page.section import Content
from analysis.page.sections.headlines import COVERS
from analysis.paired.contrasts import Comparison
from analysis.statistics.paired_t import FEW_VALUES
from analysis.web.svg import FONT, GRID, INK, PANEL, SHAPES, SOFT, shape
from analysis.words import depth_text, size_text
from jobs.specs.base import ALL

_CHARTS = {
    "delta-images": "Delta by training images",
    "delta-epoch": "Delta by epoch (learning speed)",
    "accuracy-images": "Test accuracy by training images",
    "accuracy-epoch": "Test accuracy by epoch",
}

_BANDS = (
    "In charts by training images, the lighter band is simultaneous over all sizes of a curve (Bonferroni); with more "
    f"than two curves in a panel it is left out. Fewer than {FEW_VALUES} pairs or trials: dotted bars, no band. "
    "Intervals of few may extend beyond the frame; the line above a chart counts those that it cuts."
)
_LAST = ("last", "last of each trial")
_MOST = 8
"""Curves and panels that are shown at first."""


class Choice(NamedTuple):
    """A control with one value."""

    name: str
    label: str
    options: Sequence[tuple[str, str]]
    """Values with their labels."""
    selected: str


class KindChoice(NamedTuple):
    """A control for the values of one kind: several where the kind is colour or panel, else one."""

    kind: str
    label: str
    options: Sequence[tuple[str, str]]
    """Values with their labels."""
    selected: Sequence[str]
    """The values that are shown at first; of a kind that is neither colour nor panel, the first of them."""


class _Shown(NamedTuple):
    """The initial selection."""

    comparison: Comparison
    blocks: int
    epoch: str


def contents(results: Results) -> Iterator[Content]:
    if not results.data.empty:
        kinds = list(_kinds(results))
        values = {
            "choices": list(_choices(results, kinds)),
            "kinds": kinds,
            "charts": _CHARTS,
            "any_deltas": bool(shown_pairs(results.data, results.comparisons)),
            "notes": f"{COVERS} {_BANDS}",
        }
        yield Content(title="Curves", template="curves.html", values=values, script_data=partial(_drawn, results))


def _drawn(results: Results) -> dict[str, Any]:
    """Return the data of the charts, and how they are drawn."""
    numbered = {kind: {name: _numbered(look) for name, look in of.items()} for kind, of in results.looks.items()}
    depths = sorted(set(results.data["blocks"]), key=whole_last)
    numbered["blocks"] = dict(zip(map(str, depths), numbered["blocks"].values(), strict=True))
    style = {
        "colours": COLOURS,
        "shapes": [shape(number, 0, 0) for number in range(SHAPES)],
        "font": FONT,
        "ink": INK,
        "soft": SOFT,
        "grid": GRID,
        "panel": PANEL,
        "few": FEW_VALUES,
    }
    return {**payload(results.data, results.comparisons), "looks": numbered, "style": style}


def _numbered(look: Look) -> tuple[int, int]:
    return COLOURS.index(look.colour), MARKERS.index(look.marker)


def _kinds(results: Results) -> Iterator[KindChoice]:
    data, shown = results.data, _first_shown(results)
    pair = shown.comparison
    compared = [one.source for one in results.comparisons if one.baseline == pair.baseline] or results.sources
    sources = list(dict.fromkeys([pair.source, *compared]))[:_MOST]
    datasets, kinds = ordered(set(data["dataset"])), variants(data)
    depths = sorted(set(data["blocks"]), key=whole_last)
    blocks = [(str(depth), depth_text(depth)) for depth in depths]
    yield KindChoice("source", "Sources", _named(results.sources), sources)
    yield KindChoice("dataset", "Datasets", _named(datasets), datasets[:_MOST])
    yield KindChoice("blocks", "Fine-tuned", blocks, [str(shown.blocks)])
    if len(kinds) > 1:
        yield KindChoice("variant", "Trials", _named(kinds), kinds[:_MOST])


def _choices(results: Results, kinds: Sequence[KindChoice]) -> Iterator[Choice]:
    data, shown = results.data, _first_shown(results)
    bases = sorted({pair.baseline for pair in results.comparisons}) if too_many(data) else []
    by = [(one.kind, _KINDS[one.kind]) for one in kinds]
    several = [one.kind for one in kinds if one.kind != "source" and len(one.selected) > 1]
    yield Choice("colour", "Colour", by, "source")
    yield Choice("panel", "Panel", [("none", "none"), *by], next(iter(several), "none"))
    yield Choice("baseline", "Baseline", _named(bases or results.sources), shown.comparison.baseline)
    yield Choice("epoch", "Epoch, by images", [_LAST, *_epochs(results)], shown.epoch)
    yield Choice("images", "Images, by epoch", _sizes(data), _middle(data))


_KINDS = {"source": "source", "dataset": "dataset", "blocks": "fine-tuned blocks", "variant": "trials"}


def _first_shown(results: Results) -> _Shown:
    """Return the first declared contrast with results, else the first comparison."""
    data = results.data
    for contrast in results.contrasts.contrasts:
        pair = Comparison(contrast.source, contrast.baseline)
        depths = set(contrast.blocks) & shared_blocks(data, pair[:2])
        evaluated = contrast.epoch == "last" or contrast.epoch in set(data["epoch"])
        if pair in results.comparisons and depths and evaluated:
            return _Shown(pair, headline_blocks(depths), str(contrast.epoch))
    sources = results.sources
    pair = results.comparisons[0] if results.comparisons else Comparison(sources[0], sources[-1])
    return _Shown(pair, headline_blocks(shared_blocks(data, pair[:2]) or data["blocks"]), _LAST[0])


def _epochs(results: Results) -> list[tuple[str, str]]:
    """Return the evaluated epochs; those of declared contrasts are marked."""
    declared = {str(contrast.epoch) for contrast in results.contrasts.contrasts}
    epochs = _numbers(results.data["epoch"])
    return [(value, f"{words} (declared contrast)" if value in declared else words) for value, words in epochs]


def _named(names: Sequence[str]) -> list[tuple[str, str]]:
    return [(name, name) for name in names]


def _numbers(column: "pd.Series[int]") -> list[tuple[str, str]]:
    return [(str(value), "all" if value == ALL else str(value)) for value in sorted(set(column))]


def _sizes(data: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the subset sizes in order, the whole set last."""
    sizes = sorted(set(data["images"]), key=whole_last)
    return [(str(size), size_text(size)) for size in sizes]


def _middle(data: pd.DataFrame) -> str:
    sizes = _sizes(data)
    return sizes[(len(sizes) - 1) // 2][0]
