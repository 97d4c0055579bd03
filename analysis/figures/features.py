"""What raises features of the penultimate layer: pictures, natural sources beside robust ones (Figure 1b)."""

import io
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from analysis.figures.attacks import network_words
from analysis.figures.examples import images_at_hand
from analysis.figures.intact import damaged, image_of, require_tuned
from analysis.figures.names import picture_name
from analysis.figures.style import PLAIN_TEXT, SMALLEST_POINTS, WIDTH_INCHES
from jobs.data.raw import Raw
from jobs.specs import ALL

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
"""What the pictures of one figure have in common."""

_NUMBERS = ("source", "unit", "test_image", "activation_before", "activation_after", "distance")
_MOST_SEEDS, _MOST_UNITS = 6, 8
_CELL_INCHES = 0.85
_LEFT_INCHES, _TITLE_INCHES, _MOST_BESIDE = 0.2, 0.18, 2


class Features(NamedTuple):
    """Some units of each source's network, from the same seed images."""

    name: str
    title: str
    way: str
    """How the images were moved, in words."""
    numbers: pd.DataFrame
    """A row for each source, unit and seed image, all of them."""
    png: bytes
    seeds: bool
    """Whether the seed images are on this machine, and so in the picture."""


def features(visualizations: pd.DataFrame) -> Iterator[Features]:
    """A figure for each kind of network and way of moving images: sources side by side, the least robust first.

    Args:
        visualizations: rows of the kind ``visualize`` with ``COLUMNS``.

    Raises:
        DamagedFile: for a row that does not tell its network, has no picture, or names a seed image that is not there.
    """
    require_tuned(visualizations[visualizations["finetuned"].notna()], "finetuned_dataset")
    groups = visualizations.groupby(list(SHOWN), sort=True, dropna=False)  # a source has no blocks
    for number, (_, rows) in enumerate(groups, 1):
        shown = rows.sort_values(["source_epsilon", "source_constraint", "source", "unit", "test_image"])
        first: dict[Any, Any] = shown.iloc[0].to_dict()
        raw = images_at_hand(str(first["dataset"]), str(first["dataset_sha256"]))
        yield Features(
            name=picture_name("figure1b", number, first["dataset"]),
            title=_title(first, visualizations),
            way=f"{first['steps']} steps of L2 length {first['step_size']:g}, within a radius of {first['epsilon']:g}",
            numbers=shown[list(_NUMBERS)].reset_index(drop=True),
            png=_drawn(shown, raw),
            seeds=raw is not None,
        )


def pixels(row: dict[Any, Any]) -> NDArray[np.uint8]:
    """The picture of a row, height x width x 3.

    Raises:
        DamagedFile: when it has another size than the row says.
    """
    size, length = int(row["image_size"]), len(row["image"])
    if size < 1 or length != size * size * 3:
        rule = "image has image_size x image_size pixels of three bytes, image_size at least 1"
        raise damaged(row, "image", rule, f"{length:,} bytes, with image_size {size}")
    return np.frombuffer(row["image"], np.uint8).reshape(size, size, 3)


def _title(row: dict[Any, Any], rows: pd.DataFrame) -> str:
    """Which networks, from which images, and what of the rest is not the same for all figures."""
    words = {
        "finetuned_seed": "fine-tuning seed {:.0f}",
        "test_images": "{} seed images",
        "seed": "seed {}",
        "recipe": "recipe of the pictures {}",
        "numerics": "numerics {}",
    }
    values = {**row, "test_images": "all" if row["test_images"] == ALL else f"{row['test_images']:,}"}
    varying = [name for name in words if rows[name].nunique() > 1 and not pd.isna(row[name])]  # a source has no seed
    told = [words[name].format(values[name]) for name in varying]
    return ", ".join([f"{_networks(row, rows)}, from test images of {row['dataset']}", *told])


def _networks(row: dict[Any, Any], rows: pd.DataFrame) -> str:
    """Which networks; the dataset of the rows is the seed images', not what was fine-tuned on."""
    if pd.isna(row["finetuned"]):
        return "sources"
    return network_words({**row, "dataset": row["finetuned_dataset"]}, rows)


def _drawn(rows: pd.DataFrame, raw: Raw | None) -> bytes:
    """For each source a column for each seed image; seed images above, under them a row for each unit; PNG."""
    sources = list(rows["source"].unique())
    seeds = sorted(rows["test_image"].unique())[:_MOST_SEEDS]
    of_seeds = rows.sort_values("test_image").drop_duplicates("test_image").head(len(seeds))
    units = {name: sorted(found["unit"].unique())[:_MOST_UNITS] for name, found in rows.groupby("source")}
    depth, above = max(map(len, units.values())), int(raw is not None)
    with mpl.rc_context({**PLAIN_TEXT, "font.size": SMALLEST_POINTS, "figure.dpi": 200}):
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
            found = rows[(rows["source"] == name) & rows["test_image"].isin(seeds)]
            for row in found[found["unit"].isin(units[name])].to_dict("records"):
                place = above + units[name].index(row["unit"]), seeds.index(row["test_image"])
                _show(axes[place], pixels(row), f"unit {row['unit']}" if place[1] == 0 else "")
        buffer = io.BytesIO()
        canvas.savefig(buffer, format="png")
    return buffer.getvalue()


def _show(ax: Axes, image: Any, label: str) -> None:
    ax.set_axis_on()
    ax.imshow(image, cmap="gray")
    ax.set(xticks=[], yticks=[])
    ax.set_ylabel(label)
