"""Interactive curves: controls, four charts, and their data for the page's script."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from analysis.evaluations.frames import HEADLINE_BLOCKS, headline_blocks
from analysis.page.charts import charts
from analysis.page.payload import payload, shown_pairs, too_many
from analysis.page.results import Results
from analysis.page.section import Content, Drawings
from analysis.page.sections.headlines import COVERS
from analysis.paired.contrasts import Comparison
from jobs.specs.base import ALL

_CHARTS = {
    "delta-images": "Delta vs. images",
    "accuracy-images": "Test accuracy vs. images (baseline dashed)",
    "delta-epoch": "Delta vs. epoch (learning speed)",
    "accuracy-epoch": "Test accuracy vs. epoch (baseline dashed)",
}

_BANDS = (
    "The lighter band is simultaneous over all sizes of a curve (Bonferroni); it is drawn only in charts vs. images."
)
_EVERY = ("all", "all")
_LAST = ("last", "last of each trial")
_VARIANTS = ("all", "all (first filled, others hollow)")


class Choice(NamedTuple):
    """A control whose options are the values that occur in the results."""

    name: str
    label: str
    options: Sequence[tuple[str, str]]
    """Values with their labels."""
    selected: str
    first: str | None = None
    """The variant with filled markers, if there are several variants."""


class _Shown(NamedTuple):
    """The initial selection."""

    comparison: Comparison
    blocks: int
    epoch: str


def contents(results: Results) -> Iterator[Content]:
    if not results.data.empty:
        values = {
            "choices": list(_choices(results)),
            "charts": _CHARTS,
            "any_deltas": bool(shown_pairs(results.data, results.comparisons)),
            "notes": f"{COVERS} {_BANDS}",
        }

        def numbers(_: Drawings) -> Mapping[str, Any]:
            data = results.data
            specs = charts(sorted(set(data["dataset"])), sorted(set(data["images_used"])))
            return {**payload(data, results.comparisons), "charts": specs}

        yield Content(title="Curves", template="curves.html", values=values, script_data=numbers)


def _choices(results: Results) -> Iterator[Choice]:
    data = results.data
    shown = _first_shown(results)
    bases = sorted({pair.baseline for pair in results.comparisons}) if too_many(data) else []
    variants = sorted(set(data["variant"]), reverse=True)
    yield Choice("source", "Source", _named(results.sources), shown.comparison.source)
    yield Choice("baseline", "Baseline", _named(bases or results.sources), shown.comparison.baseline)
    yield Choice("blocks", "Fine-tuned blocks", _numbers(data["blocks"]), str(shown.blocks))
    yield Choice("dataset", "Dataset", [_EVERY, *_named(sorted(set(data["dataset"])))], _EVERY[0])
    yield Choice("epoch", "Epoch (charts vs. images)", [_LAST, *_epochs(results)], shown.epoch)
    yield Choice("images", "Images (charts vs. epoch)", _sizes(data), _middle(data))
    if len(variants) > 1:
        yield Choice("variant", "Trials", [_VARIANTS, *_named(variants)], variants[0], first=variants[0])


def _first_shown(results: Results) -> _Shown:
    """Return the first declared contrast with results, else the first comparison."""
    data = results.data
    for contrast in results.contrasts.contrasts:
        pair, blocks = Comparison(contrast.source, contrast.baseline), set(contrast.blocks) & set(data["blocks"])
        evaluated = contrast.epoch == "last" or contrast.epoch in set(data["epoch"])
        if pair in results.comparisons and blocks and evaluated:
            return _Shown(pair, HEADLINE_BLOCKS if HEADLINE_BLOCKS in blocks else max(blocks), str(contrast.epoch))
    sources = results.sources
    pair = results.comparisons[0] if results.comparisons else Comparison(sources[0], sources[-1])
    return _Shown(pair, headline_blocks(data), _LAST[0])


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
    sizes = sorted(set(data["images"]), key=lambda size: (size == ALL, size))
    return [(str(size), "all" if size == ALL else f"{size:,}") for size in sizes]


def _middle(data: pd.DataFrame) -> str:
    sizes = _sizes(data)
    return sizes[(len(sizes) - 1) // 2][0]
