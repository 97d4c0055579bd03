"""The charts of the live page: deltas by size of the training set, and learning curves."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from analysis.figures.drawing.style import numbers_of
from analysis.statistics.paired_t import FEW_VALUES
from analysis.web.svg import Axis, axis
from analysis.words import counted, size_text
from jobs.specs.base import ALL
from orchestrator.live import svg
from orchestrator.live.comparisons import Curve, Delta, Deltas

_APART = 7.0
"""Most distance of two comparisons at the same size, in pixels."""
_FILLED = 0.8
"""Share of the place of a size that its comparisons take, where they do not have this distance."""
_PANEL = (400, 250)
_MOST_LABELS = 7


class Panel(NamedTuple):
    """A chart with its title."""

    title: str
    chart: Markup


def delta_panels(found: Deltas, sources: Sequence[str]) -> list[Panel]:
    """Draw a panel for each dataset, all with the same axes.

    Args:
        sources: all of the root; the place decides the look, as in the report.
    """
    sizes = sorted({cell.images for cell in found.cells}, key=lambda images: (images == ALL, images))
    drawn = [cell for cell in found.cells if cell.pairs]
    # intervals of few pairs are often much wider than all others, and do not determine the range of the axis
    ends = [end for cell in drawn if cell.pairs >= FEW_VALUES for end in (cell.low, cell.high)]
    y = axis("delta, points", (*(cell.mean for cell in drawn), *ends), around=[0.0], most=5)
    every = 1 + (len(sizes) - 1) // _MOST_LABELS  # the last size always has a label
    ticks = [(i, _short(size)) for i, size in enumerate(sizes) if (len(sizes) - 1 - i) % every == 0]
    x = Axis("training images", -0.5, len(sizes) - 0.5, ticks)
    place = {size: i for i, size in enumerate(sizes)}
    panels = []
    for number, dataset in enumerate(dict.fromkeys(cell.dataset for cell in found.cells)):
        cells = [cell for cell in drawn if cell.dataset == dataset]
        label = f"Deltas on {dataset} by training images, {len(cells)} cells; the table below has the numbers."
        chart = svg.Chart(x, y, label, _PANEL)
        chart.level(0.0)
        apart = min(_APART, _FILLED * (chart.x(1) - chart.x(0)) / len(found.comparisons))
        shifts = {pair: apart * (i - (len(found.comparisons) - 1) / 2) for i, pair in enumerate(found.comparisons)}
        for pair, shift in shifts.items():
            of = [cell for cell in cells if (cell.source, cell.baseline) == (pair.source, pair.baseline)]
            colour, marker = numbers_of(sources.index(pair.source))
            for cell in of:
                if math.isfinite(cell.low):
                    chart.interval(place[cell.images], cell.low, cell.high, f"interval s{colour}", shift)
            for cell in of:
                at = (float(place[cell.images]), cell.mean)
                chart.mark(at, marker, f"mark s{colour}", delta_words(cell), shift)
        panels.append(Panel(dataset, chart.markup(f"delta-{number}")))
    return panels


def delta_words(cell: Delta) -> str:
    """Describe a delta in words."""
    where = f"{cell.source} minus {cell.baseline}, {cell.dataset}, {size_text(cell.images)} images"
    interval = f"{interval_words(cell)}; {cell.method}" if math.isfinite(cell.low) else cell.method
    return f"{where}: {points(cell.mean)} ({interval}), {counted(cell.pairs, 'pair')}"


def interval_words(cell: Delta) -> str:
    return f"{points(cell.low)} to {points(cell.high)}" if math.isfinite(cell.low) else "no interval"


def points(value: float) -> str:
    """Format percentage points: with sign, two decimals."""
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


class Summary(NamedTuple):
    """How a source compares with its baseline over all cells that have pairs."""

    source: str
    words: str
    place: int
    """Of its source among all of the root, which decides colour and mark."""
    cells: int
    bounded: int
    """Cells with an interval, of two pairs or more, except those in which all differences are equal."""
    above: int
    below: int
    equal: int
    """Cells in which all differences are equal: an interval without width is not a precise one."""
    few: int
    """Cells with an interval of fewer than ``FEW_VALUES`` pairs, which rests on normal differences."""
    median: float | None


def summaries(found: Deltas, sources: Sequence[str]) -> list[Summary]:
    """Count the cells whose interval is above or below zero, and those whose interval says little, by comparison."""
    made = []
    for pair in found.comparisons:
        cells = [cell for cell in found.cells if (cell.source, cell.baseline) == (pair.source, pair.baseline)]
        known = [cell for cell in cells if math.isfinite(cell.low)]
        wide = [cell for cell in known if not cell.equal]
        means = sorted(cell.mean for cell in cells if cell.pairs)
        middle = len(means) // 2
        median = None if not means else means[middle] if len(means) % 2 else (means[middle - 1] + means[middle]) / 2
        made.append(
            Summary(
                pair.source,
                pair.words,
                sources.index(pair.source),
                len(means),
                len(wide),
                sum(cell.low > 0 for cell in wide),
                sum(cell.high < 0 for cell in wide),
                len(known) - len(wide),
                sum(cell.pairs < FEW_VALUES for cell in known),
                median,
            )
        )
    return made


def curve_chart(
    found: Sequence[Curve], sources: Sequence[str], label: str, size: tuple[int, int] = (560, 320)
) -> Markup:
    """Draw learning curves: finished trials faint, their means strong, running trials dashed."""
    every = [point for curve in found for point in curve.points]
    x = axis("epoch", (float(epoch) for epoch, _ in every), around=[1.0], whole=True)
    y = axis("test accuracy, %", (value for _, value in every), most=5)
    chart = svg.Chart(x, y, label, size)
    for curve in sorted(found, key=lambda curve: (not curve.trial_id, curve.running)):
        colour, marker = numbers_of(sources.index(curve.source))
        line = [(float(epoch), value) for epoch, value in curve.points]
        style = "mean" if not curve.trial_id else "dashed" if curve.running else "faint"
        chart.line(line, f"line {style} s{colour}")
        if curve.running and line:
            words = f"{curve.source}, running: {line[-1][1]:.1f} % after epoch {line[-1][0]:.0f}"
            chart.mark(line[-1], marker, f"mark hollow s{colour}", words)
        if not curve.trial_id:
            for epoch, value in line:
                words = f"{curve.source}: {value:.1f} % after epoch {epoch:.0f}, mean of {curve.trials}"
                chart.mark((epoch, value), marker, f"mark s{colour}", words)
    return chart.markup("curves")


def trial_chart(lines: Mapping[str, Sequence[tuple[int, float]]], label: str, running: bool) -> Markup:
    """Draw the accuracies of one trial by epoch.

    Args:
        lines: by name; the order decides the colours.
    """
    every = [point for line in lines.values() for point in line]
    x = axis("epoch", (float(epoch) for epoch, _ in every), around=[1.0], whole=True)
    chart = svg.Chart(x, axis("accuracy, %", (value for _, value in every), most=5), label, (560, 300))
    for number, (name, line) in enumerate(lines.items()):
        where = [(float(epoch), value) for epoch, value in line]
        chart.line(where, f"line {'dashed' if running else 'mean'} s{number}")
        for epoch, value in where:
            chart.mark((epoch, value), number, f"mark s{number}", f"{name}: {value:.2f} % after epoch {epoch:.0f}")
    return chart.markup("curve")


def _short(images: int) -> str:
    """Format a size for an axis: 100, 1.6k, 12.8k, all."""
    if images == ALL:
        return "all"
    return str(images) if images < 1000 else f"{images / 1000:g}k"
