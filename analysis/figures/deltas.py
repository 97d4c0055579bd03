"""The deltas of any comparisons by number of training images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from analysis.evaluations.frames import at_epoch, whole_last
from analysis.evaluations.lengths import apart_remark
from analysis.figures.drawing.axis import DELTA, IMAGES
from analysis.figures.drawing.model import Figure, Panel
from analysis.figures.points import delta_points, named_variants, with_variants_named
from analysis.paired.contrasts import Comparison
from analysis.words import counted
from jobs.errors import Code, InvalidRequest
from jobs.specs.base import ALL


def deltas_figure(data: pd.DataFrame, chosen: Sequence[Comparison], words: Mapping[str, str]) -> Figure:
    """Return the figure: a panel for each comparison and number of blocks, with a curve for each dataset.

    Args:
        data: evaluations (``analysis.evaluations.frames.frame``).
        chosen: comparisons at equal blocks.
        words: descriptions of recipes, by digest, for legends.

    Raises:
        InvalidRequest: if no comparison has a pair of trials.
    """
    last = at_epoch(data, "last")
    by_depth = {
        int(str(depth)): [panel for comparison in chosen if not (panel := _panel(rows, comparison)).points.empty]
        for depth, rows in last.groupby("blocks")
    }
    depths = sorted((depth for depth, panels in by_depth.items() if panels), key=whole_last)
    several = len(depths) > 1
    panels = [
        replace(panel, row=_fine_tuned(depth) if several else "") for depth in depths for panel in by_depth[depth]
    ]
    remark = apart_remark(data)
    if not panels:
        sources = ", ".join(sorted(set(data["source"]))) or "none"
        raise InvalidRequest(
            Code.NO_ANSWER,
            "a delta needs two sources with trials of the same seed, recipe and length; the results have the sources "
            + "; ".join(filter(None, [sources, remark])),
            key="source",
        )
    return Figure(
        name="deltas",
        title="Delta by number of training images",
        caption="Difference in test accuracy after the last epoch between two sources, paired by seed."
        + ("" if several else f" {_fine_tuned(depths[0])}."),
        panels=with_variants_named(panels, named_variants(data, words)),
        columns=2 if len(panels) in (1, 2, 4) else 3,
        notes=tuple(filter(None, [remark, _without_pairs(chosen, panels)])),
    )


def _panel(rows: pd.DataFrame, comparison: Comparison) -> Panel:
    left, right = (rows[rows["source"] == source] for source in (comparison.source, comparison.baseline))
    points = delta_points(left, right, "dataset", "images", comparison.words)
    return Panel(title=comparison.words, quantity=DELTA, against=IMAGES, points=points)


def _without_pairs(chosen: Sequence[Comparison], panels: Sequence[Panel]) -> str:
    """Return a remark on the comparisons that have no panel; empty if all have."""
    shown = {panel.title for panel in panels}
    left_out = [comparison.words for comparison in chosen if comparison.words not in shown]
    return f"no trials pair for {', '.join(left_out)}" if left_out else ""


def _fine_tuned(depth: int) -> str:
    return f"{'All blocks' if depth == ALL else counted(depth, 'block')} fine-tuned"
