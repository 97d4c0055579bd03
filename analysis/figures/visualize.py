"""Feature visualization of the penultimate layer: natural and robust sources side by side (Figure 1b of the paper)."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from analysis.figures.drawing.style import WIDTH_INCHES
from analysis.figures.exhibits import Exhibit, KindExhibits, Topic, picture_topic
from analysis.figures.networks import network_words
from analysis.figures.pictures import drawn_pictures, images_at_hand, picture_name, png
from analysis.figures.row_validation import damaged, image_of, require_tuned
from jobs.data.raw import Raw
from jobs.specs.base import ALL

COLUMNS = (
    "trial_id",
    "source",
    "finetuned",
    "blocks",
    "images",
    "finetuned_dataset",
    "finetuned_seed",
    "finetuned_epochs",
    "finetuned_recipe",
    "dataset",
    "seed",
    "recipe",
    "numerics",
    "source_constraint",
    "source_epsilon",
    "dataset_sha256",
    "unit",
    "test_images",
    "epsilon",
    "step_size",
    "steps",
    "test_image",
    "activation_before",
    "activation_after",
    "distance",
    "image_size",
    "image",
)
SHOWN = (
    *("dataset", "finetuned_dataset", "blocks", "images", "finetuned_seed", "finetuned_epochs", "finetuned_recipe"),
    *("seed", "test_images", "epsilon", "step_size", "steps", "recipe", "numerics"),
)
"""Columns in which the pictures of one figure agree."""

_NUMBERS = ("source", "unit", "test_image", "activation_before", "activation_after", "distance")
_CAPTION = (
    "Each picture starts from the seed image of its column and is optimized to increase one feature of the network's "
    "penultimate layer: {way}. Pictures in a row show the same unit; units of different sources are unrelated. What "
    "people see in the pictures is not measured."
)
_NO_SEEDS = "The seed images that were used are not available on this machine."
_NAMES = ("source", "unit", "seed image", "activation before", "after", "distance (L2)")
_MOST_SEEDS, _MOST_UNITS = 6, 8
_CELL_INCHES = 0.85
_LEFT_INCHES, _TITLE_INCHES, _MOST_BESIDE = 0.2, 0.18, 2


def features(visualizations: pd.DataFrame) -> Iterator[Exhibit]:
    """Yield a figure for each type of network and optimization: sources side by side, the least robust first.

    Args:
        visualizations: rows of the kind ``visualize`` with ``COLUMNS``.

    Raises:
        DamagedFile: for a row without its network or picture, or with a seed image that does not exist.
    """
    require_tuned(visualizations[visualizations["finetuned"].notna()], "finetuned_dataset")
    groups = visualizations.groupby(list(SHOWN), sort=True, dropna=False)  # a source has no blocks
    for number, (_, rows) in enumerate(groups, 1):
        shown = rows.sort_values(["source_epsilon", "source_constraint", "source", "unit", "test_image"])
        first: dict[Any, Any] = shown.iloc[0].to_dict()
        raw = images_at_hand(str(first["dataset"]), str(first["dataset_sha256"]))
        way = f"{first['steps']} steps of L2 length {first['step_size']:g} within a radius of {first['epsilon']:g}"
        caption = _CAPTION.format(way=way)
        yield Exhibit(
            like="Figure 1b of the paper",
            name=picture_name("figure1b", number, first["dataset"]),
            title=_title(first, visualizations),
            caption=caption if raw is not None else f"{caption} {_NO_SEEDS}",
            numbers=shown[list(_NUMBERS)].reset_index(drop=True),
            columns=_NAMES,
            right=frozenset(_NAMES[1:]),
            png=_drawn(shown, raw),
        )


def pixels(row: dict[Any, Any]) -> NDArray[np.uint8]:
    """Return the picture of a row, shape height x width x 3.

    Raises:
        DamagedFile: when its size differs from the row's ``image_size``.
    """
    size, length = int(row["image_size"]), len(row["image"])
    if size < 1 or length != size * size * 3:
        rule = "image must have image_size x image_size pixels of three bytes, image_size at least 1"
        raise damaged(row, "image", rule, f"{length:,} bytes, with image_size {size}")
    return np.frombuffer(row["image"], np.uint8).reshape(size, size, 3)


def _title(row: dict[Any, Any], rows: pd.DataFrame) -> str:
    """Describe the networks, the seed images, and the other settings that vary between figures."""
    words = {
        "finetuned_seed": "fine-tuning seed {:.0f}",
        "test_images": "{} seed images",
        "seed": "seed {}",
        "recipe": "recipe of the pictures {}",
        "numerics": "numerics {}",
    }
    values = {**row, "test_images": "all" if row["test_images"] == ALL else f"{row['test_images']:,}"}
    varying = [name for name in words if rows[name].nunique() > 1 and not pd.isna(row[name])]  # a source has no seed
    differences = [words[name].format(values[name]) for name in varying]
    return ", ".join([f"{_networks(row, rows)}, from test images of {row['dataset']}", *differences])


def _networks(row: dict[Any, Any], rows: pd.DataFrame) -> str:
    """Describe the networks; the dataset of the rows is that of the seed images, not of fine-tuning."""
    if pd.isna(row["finetuned"]):
        return "sources"
    return network_words({**row, "dataset": row["finetuned_dataset"]}, rows)


def _drawn(rows: pd.DataFrame, raw: Raw | None) -> bytes:
    """Draw one column per seed image for each source: seed images on top, below them one row per unit; PNG."""
    sources = list(rows["source"].unique())
    seeds = sorted(rows["test_image"].unique())[:_MOST_SEEDS]
    of_seeds = rows.sort_values("test_image").drop_duplicates("test_image").head(len(seeds))
    units = {name: sorted(shown["unit"].unique())[:_MOST_UNITS] for name, shown in rows.groupby("source")}
    depth, above = max(map(len, units.values())), int(raw is not None)
    with drawn_pictures():
        beside = min(len(sources), _MOST_BESIDE)
        wide, down = WIDTH_INCHES / beside, math.ceil(len(sources) / beside)
        cell = min(_CELL_INCHES, (wide - _LEFT_INCHES) / len(seeds))
        high = cell * (depth + above) + _TITLE_INCHES
        canvas = Canvas(figsize=(WIDTH_INCHES, high * down))
        parts = canvas.subfigures(down, beside, squeeze=False)
        for part, name in zip(parts.flat, sources, strict=False):
            part.text(_LEFT_INCHES / wide, 1 - 0.04 / high, name, va="top")
            axes = part.subplots(depth + above, len(seeds), squeeze=False)
            part.subplots_adjust(
                left=_LEFT_INCHES / wide,
                right=(_LEFT_INCHES + cell * len(seeds) - 0.04) / wide,
                bottom=0.03 / high,
                top=1 - _TITLE_INCHES / high,
                wspace=0.06,
                hspace=0.06,
            )
            for ax in axes.flat:
                ax.set_axis_off()
            if raw is not None:
                for ax, (_, row) in zip(axes[0], of_seeds.iterrows(), strict=True):
                    image = image_of(raw.test, row["test_image"], row.to_dict(), "test_image")
                    _show(ax, image, "seed" if ax is axes[0, 0] else "")
            shown = rows[(rows["source"] == name) & rows["test_image"].isin(seeds)]
            for row in shown[shown["unit"].isin(units[name])].to_dict("records"):
                place = above + units[name].index(row["unit"]), seeds.index(row["test_image"])
                _show(axes[place], pixels(row), f"unit {row['unit']}" if place[1] == 0 else "")
        return png(canvas)


def _show(ax: Axes, image: Any, label: str) -> None:
    ax.set_axis_on()
    ax.imshow(image, cmap="gray")
    ax.set(xticks=[], yticks=[])
    ax.set_ylabel(label)


def _topics(visualizations: pd.DataFrame) -> list[Topic]:
    return picture_topic("Diagnostics: feature visualization", features(visualizations))


SECTION = KindExhibits(columns=COLUMNS, topics=_topics)
