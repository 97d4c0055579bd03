"""Shape bias: how often networks decide by shape where shape and texture conflict (Figure 4 of Geirhos et al. 2019)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.figures.drawing.axis import Axis, percent
from analysis.figures.drawing.model import BARS, FEW_APART, POINTS, Figure, Panel
from analysis.figures.exhibits import KindExhibits, Topic, figure_topic
from analysis.figures.networks import NETWORKS, network_words
from analysis.statistics.grouped import curve_means

COLUMNS = (
    "trial_id",
    "source",
    "finetuned",
    "finetuned_seed",
    "finetuned_dataset",
    "dataset",
    "blocks",
    "images",
    "finetuned_epochs",
    "finetuned_recipe",
    "recipe",
    "numerics",
    "shape",
    "texture",
    "decision",
)
OVERALL = "overall"

_MEANING = "Shown overall and by the label of the shape. Images classified as a third label are excluded."

_BIAS = percent("bias", "shape bias")
_CATEGORY = Axis(column="category", label="category", first_apart=True)
_KINDS = ("finetuned_dataset", *NETWORKS)
"""Columns in which the networks of one panel agree."""

_CHOICES = ("recipe", "numerics")
"""Columns in which the trials of one series agree, besides those of the network."""


def shape_bias_figure(decisions: pd.DataFrame) -> Figure | None:
    """Return the shape bias of each source, overall and by category, one panel per type of network; None if empty.

    Args:
        decisions: rows of the kind ``shape_bias`` with ``COLUMNS``.
    """
    biases = shape_biases(decisions)
    if biases.empty:
        return None
    return Figure(
        name="shape-bias",
        title="Shape bias",
        caption="Share of images classified by shape, among the images with conflicting shape and texture that are "
        "classified by one of the two.",
        panels=tuple(_panels(biases)),
        notes=tuple(_decided(biases)),
        shades=BARS,
        intervals=f"{_MEANING} {FEW_APART}",
    )


def shape_biases(decisions: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each trial and category of shape, and one ``OVERALL``: ``bias`` and ``decided``, in percent.

    ``decided`` is the share of conflicting images that are given the label of a cue; ``bias`` is the share of these
    that are given the label of the shape, NaN where there are none. Images whose cues agree are left out. Of several
    trials on networks that differ only in when they were evaluated, and are therefore equal, one is kept.
    """
    rows = decisions[decisions["shape"] != decisions["texture"]]
    decided = rows.assign(by_shape=rows["decision"] == rows["shape"], by_texture=rows["decision"] == rows["texture"])
    both = pd.concat([decided.assign(category=OVERALL), decided.assign(category=decided["shape"])], ignore_index=True)
    trial = [name for name in COLUMNS if name not in ("shape", "texture", "decision")]
    cells = both.groupby([*trial, "category"], sort=True, dropna=False, as_index=False)
    counts = cells.agg(n=("by_shape", "size"), by_shape=("by_shape", "sum"), by_texture=("by_texture", "sum"))
    counts = counts.drop_duplicates([*(name for name in trial if name not in ("trial_id", "finetuned")), "category"])
    either = counts["by_shape"] + counts["by_texture"]
    return counts.assign(bias=100 * counts["by_shape"] / either, decided=100 * either / counts["n"])


def _panels(biases: pd.DataFrame) -> Iterator[Panel]:
    groups = biases.groupby(list(_KINDS), sort=True, dropna=False)  # sources: null in all keys but dataset
    drawn = [shown.dropna(subset="bias") for _, shown in groups]
    varying = [name for name in _CHOICES if any(shown[name].nunique() > 1 for shown in drawn)]
    for (_, shown), decided in zip(groups, drawn, strict=True):
        names = (OVERALL, *sorted(set(shown["category"]) - {OVERALL}))
        points = _points(decided, names, varying)
        yield Panel(
            title=_words(shown.iloc[0].to_dict(), biases),
            quantity=_BIAS,
            against=_CATEGORY,
            by="source",
            points=points,
            ticks=names,
        )


def _words(row: Mapping[Any, Any], biases: pd.DataFrame) -> str:
    """Describe the networks, and what they were fine-tuned on where this varies."""
    tuned = biases["finetuned_dataset"].nunique() > 1 and not pd.isna(row["finetuned"])
    return network_words(row, biases) + (f", fine-tuned on {row['finetuned_dataset']}" if tuned else "")


def _points(biases: pd.DataFrame, names: tuple[str, ...], varying: Sequence[str]) -> pd.DataFrame:
    places = biases.assign(x=[names.index(category) for category in biases["category"]])
    table = curve_means(places, ["source", *_CHOICES], "x", "bias")
    words = [", ".join(f"{name} {row[name]}" for name in varying) for row in table.to_dict("records")]
    return table.assign(series=table["source"], arm=table["source"], variant=words, whole=False)[list(POINTS)]


def _decided(biases: pd.DataFrame) -> Iterator[str]:
    """Yield a sentence per panel with the share of images that each source classified by shape or texture."""
    overall = biases[biases["category"] == OVERALL]
    for _, shown in overall.groupby(list(_KINDS), sort=True, dropna=False):
        means = shown.groupby("source", sort=True)["decided"].mean()
        shares = ", ".join(f"{mean:.0f} % by {source}" for source, mean in means.items())
        yield f"Classified by shape or texture ({_words(shown.iloc[0].to_dict(), biases)}): {shares}"


def _topics(decisions: pd.DataFrame) -> Iterator[Topic]:
    figure = shape_bias_figure(decisions)
    if figure is not None:
        words = ("networks", "source", "variant", "category")
        columns = (*words, "shape bias", "low", "high", "trials")
        yield figure_topic(figure, "Figure 4 of Geirhos et al. (2019)", columns, words)


SECTION = KindExhibits(columns=COLUMNS, topics=_topics)
