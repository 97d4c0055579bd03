"""Shape bias: how often networks decide by shape where shape and texture disagree (Figure 4 of Geirhos et al. 2019)."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.figures.attacks import NETWORKS, network_words
from analysis.figures.model import BARS, FEW_APART, POINTS, Figure, Panel
from analysis.figures.points import mean_points

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

_MEANING = "Overall, and by the label of the shape. Images that a network gives a third label count for neither."

_KINDS = ("finetuned_dataset", *NETWORKS)
"""What the networks of one panel have in common."""

_CHOICES = ("recipe", "numerics")
"""What the trials of one series have in common besides the network."""


def shape_bias_figure(decisions: pd.DataFrame) -> Figure | None:
    """Shape bias of each source, overall and by category, a panel for each kind of network; None without any trial.

    Args:
        decisions: rows of the kind ``shape_bias`` with ``COLUMNS``.
    """
    biases = shape_biases(decisions)
    if biases.empty:
        return None
    return Figure(
        name="shape-bias",
        title="Shape bias",
        caption="Of images of one shape and another texture that are given one of these two labels, the share given "
        "that of the shape.",
        panels=tuple(_panels(biases)),
        notes=tuple(_decided(biases)),
        shades=BARS,
        intervals=f"{_MEANING} {FEW_APART}",
    )


def shape_biases(decisions: pd.DataFrame) -> pd.DataFrame:
    """A row for each trial and category of shape, and one ``OVERALL``: ``bias`` and ``decided``, in percent.

    ``decided`` is the share of conflicting images that are given the label of a cue; ``bias`` the share of these that
    are given that of the shape, NaN where there are none. Images whose cues agree are left out. Of trials on networks
    that differ only in when they were evaluated, and so in nothing, one stands.
    """
    rows = decisions[decisions["shape"] != decisions["texture"]]
    made = rows.assign(by_shape=rows["decision"] == rows["shape"], by_texture=rows["decision"] == rows["texture"])
    both = pd.concat([made.assign(category=OVERALL), made.assign(category=made["shape"])], ignore_index=True)
    trial = [name for name in COLUMNS if name not in ("shape", "texture", "decision")]
    cells = both.groupby([*trial, "category"], sort=True, dropna=False, as_index=False)
    found = cells.agg(n=("by_shape", "size"), by_shape=("by_shape", "sum"), by_texture=("by_texture", "sum"))
    found = found.drop_duplicates([*(name for name in trial if name not in ("trial_id", "finetuned")), "category"])
    either = found["by_shape"] + found["by_texture"]
    return found.assign(bias=100 * found["by_shape"] / either, decided=100 * either / found["n"])


def _panels(biases: pd.DataFrame) -> Iterator[Panel]:
    for _, shown in biases.groupby(list(_KINDS), sort=True, dropna=False):  # a source has but the dataset
        names = (OVERALL, *sorted(set(shown["category"]) - {OVERALL}))
        points = _points(shown.dropna(subset="bias"), names)
        yield Panel(
            title=_words(shown.iloc[0].to_dict(), biases),
            quantity="bias",
            against="category",
            by="source",
            points=points,
            ticks=names,
        )


def _words(row: Mapping[Any, Any], biases: pd.DataFrame) -> str:
    """Which networks, and what they were tuned on where that is not the same for all."""
    tuned = biases["finetuned_dataset"].nunique() > 1 and not pd.isna(row["finetuned"])
    return network_words(row, biases) + (f", tuned on {row['finetuned_dataset']}" if tuned else "")


def _points(biases: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    places = biases.assign(x=[names.index(category) for category in biases["category"]])
    table = mean_points(places, ["source", *_CHOICES], "x", "bias")
    varying = [name for name in _CHOICES if table[name].nunique() > 1]
    words = [", ".join(f"{name} {row[name]}" for name in varying) for row in table.to_dict("records")]
    return table.assign(series=table["source"], arm=table["source"], variant=words, whole=False)[list(POINTS)]


def _decided(biases: pd.DataFrame) -> Iterator[str]:
    """What share of the images the bias is about."""
    overall = biases[biases["category"] == OVERALL]
    for _, shown in overall.groupby(list(_KINDS), sort=True, dropna=False):
        means = shown.groupby("source", sort=True)["decided"].mean()
        told = ", ".join(f"{mean:.0f} % by {source}" for source, mean in means.items())
        yield f"Given the label of shape or texture ({_words(shown.iloc[0].to_dict(), biases)}): {told}"
