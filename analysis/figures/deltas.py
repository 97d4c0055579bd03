"""The deltas of any comparisons by number of training images."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from analysis.evaluations.frames import at_epoch
from analysis.figures.drawing.axis import DELTA, IMAGES
from analysis.figures.drawing.model import Figure, Panel
from analysis.figures.points import delta_points, with_variants_named
from analysis.paired.contrasts import Comparison
from analysis.words import counted
from jobs.errors import Code, InvalidRequest
from jobs.specs.base import ALL


def deltas_figure(data: pd.DataFrame, chosen: Sequence[Comparison]) -> Figure:
    """Return the figure: a panel for each comparison and number of blocks, with a curve for each dataset.

    Args:
        data: evaluations (``analysis.evaluations.frames.frame``).
        chosen: comparisons at equal blocks.

    Raises:
        InvalidRequest: if no comparison has a pair of trials.
    """
    last = at_epoch(data, "last")
    by_depth = {
        int(str(depth)): [panel for comparison in chosen if not (panel := _panel(rows, comparison)).points.empty]
        for depth, rows in last.groupby("blocks")
    }
    depths = sorted((depth for depth, panels in by_depth.items() if panels), key=lambda depth: (depth == ALL, depth))
    several = len(depths) > 1
    panels = [
        replace(panel, row=_fine_tuned(depth) if several else "") for depth in depths for panel in by_depth[depth]
    ]
    if not panels:
        raise InvalidRequest(
            Code.NO_ANSWER,
            f"a delta needs two sources with trials of the same seed; the results have these sources: "
            f"{', '.join(sorted(set(data['source']))) or 'none'}",
            key="source",
        )
    return Figure(
        name="deltas",
        title="Delta by number of training images",
        caption="Difference in test accuracy after the last epoch between two sources, paired by seed."
        + ("" if several else f" {_fine_tuned(depths[0])}."),
        panels=with_variants_named(panels),
        columns=2 if len(panels) in (1, 2, 4) else 3,
    )


def _panel(rows: pd.DataFrame, comparison: Comparison) -> Panel:
    left, right = (rows[rows["source"] == source] for source in (comparison.source, comparison.baseline))
    points = delta_points(left, right, "dataset", "images", comparison.words)
    return Panel(title=comparison.words, quantity=DELTA, against=IMAGES, points=points)


def _fine_tuned(depth: int) -> str:
    return f"{'All blocks' if depth == ALL else counted(depth, 'block')} fine-tuned"
