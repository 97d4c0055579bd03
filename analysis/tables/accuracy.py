"""Table 7: mean test accuracy of every source on every dataset and subset size."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import pandas as pd

from analysis.evaluations.frames import at_epoch, headline_blocks, whole_last
from analysis.evaluations.lengths import apart, apart_text
from analysis.tables.model import Table, TableRow
from analysis.tables.published import printed
from analysis.words import counted, depth_text
from jobs.specs.base import ALL

_VARIANT = ["origin", "recipe", "numerics", "length"]
_ROW = [*_VARIANT, "images_used", "dataset", "images"]
"""The columns in which the cells of a row agree, in the order in which rows are sorted."""
_CELL = [*_VARIANT, "dataset", "images"]

_Column: TypeAlias = tuple[str, int]
"""A source and its number of blocks."""


def means(data: pd.DataFrame) -> pd.DataFrame:
    """Return mean test accuracy (percent) after the last epoch, its standard deviation, and ``n``.

    Groups are cells, sources, ``blocks`` and ``epochs``.
    """
    last = at_epoch(data, "last").sort_values("trial_id")
    groups = last.groupby([*_ROW, "source", "blocks", "epochs"], as_index=False)
    return groups.agg(mean=("test_accuracy", "mean"), sd=("test_accuracy", "std"), n=("test_accuracy", "size"))


def table7(data: pd.DataFrame) -> Table:
    """Return one row per dataset and size with one column per source; the best sources of a row are in bold.

    Each source has the trials of three blocks, or else of its largest number; a column says which, unless the title
    does. No source is best where it is the only one, or where the sources have trials of different lengths.
    """
    depths = data.groupby([*_VARIANT, "source"])["blocks"].transform(headline_blocks)
    accuracies = means(data[data["blocks"] == depths])
    depth = headline_blocks(accuracies["blocks"])
    varying = [name for name in _VARIANT if accuracies[name].nunique() > 1]
    fixed = [*varying, "dataset", "images"]
    labels = _columns(accuracies, depth, fixed)
    unlike = apart(accuracies, "source", "blocks")
    unequal = set(unlike[_CELL].itertuples(index=False, name=None))
    rows: list[TableRow] = []
    best: set[tuple[int, str]] = set()
    for number, (_, cells) in enumerate(accuracies.groupby(_ROW, sort=True)):
        values = cells.iloc[:1].to_dict("records")[0]
        found = dict(zip(zip(cells["source"], cells["blocks"], strict=True), cells["mean"], strict=True))
        rows.append((*(_text(values[name]) for name in fixed), *(_percent(found.get(column)) for column in labels)))
        if tuple(values[name] for name in _CELL) not in unequal:
            best |= {(number, labels[column]) for column in _best(found)}
    return Table(
        name="table7",
        title=f"Mean test accuracy (%) after fine-tuning; fine-tuned: {depth_text(depth)}",
        columns=(*fixed, *labels.values()),
        rows=tuple(rows),
        numbers=frozenset({"numerics", "images", *labels.values()}),
        best=frozenset(best),
        notes=(_counted(accuracies), *_unlike(unlike, len(unequal))),
    )


def _columns(accuracies: pd.DataFrame, depth: int, fixed: Sequence[str]) -> dict[_Column, str]:
    """Return the columns with their headings: the paper's in its order, then the others by name.

    Args:
        depth: the number of blocks that needs no words.
        fixed: the headings of other columns.
    """
    paper = list(dict.fromkeys(printed()["source"]))
    present = set(zip(accuracies["source"], accuracies["blocks"], strict=True))
    names = {source for source, _ in present}
    order = [*(name for name in paper if name in names), *sorted(names - set(paper))]
    labels = {}
    for source, blocks in sorted(present, key=lambda column: (order.index(column[0]), whole_last(column[1]))):
        name = f"source {source}" if source in fixed else source
        labels[source, blocks] = name if blocks == depth else f"{name} ({depth_text(blocks)})"
    return labels


def _best(found: Mapping[_Column, float]) -> list[_Column]:
    """Return the columns with the highest accuracy of a row, as it is written; none if there is only one."""
    if len(found) < 2:
        return []
    highest = _percent(max(found.values()))
    return [column for column, mean in found.items() if _percent(mean) == highest]


def _unlike(found: pd.DataFrame, rows: int) -> list[str]:
    """Say where no source is best because lengths differ."""
    if not rows:
        return []
    return [
        f"In {counted(rows, 'row')} no source is best: those without a common length are not comparable "
        f"({apart_text(found, 'source')})."
    ]


def _counted(accuracies: pd.DataFrame) -> str:
    low, high = int(accuracies["n"].min()), int(accuracies["n"].max())
    return (
        f"Means over seeds after the last epoch; seeds per cell: {low}."
        if low == high
        else f"Means over seeds after the last epoch; seeds per cell: {low} to {high}."
    )


def _text(value: object) -> str:
    return "all" if value == ALL else f"{value:,}" if isinstance(value, int) else str(value)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
