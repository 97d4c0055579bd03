"""The most influential training image of some test images, side by side for all sources (Figure 6 of the paper)."""

import io
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from analysis.figures.attacks import network_words
from analysis.figures.influences import MEASURES, SHOWN, curve_names, require_weighed
from analysis.figures.intact import image_of
from analysis.figures.intact import numbers as numbers_of
from analysis.figures.layout import text_inches
from analysis.figures.names import picture_name
from analysis.figures.style import PLAIN_TEXT, SMALLEST_POINTS, WIDTH_INCHES
from jobs import registry
from jobs.data.raw import Raw
from jobs.data.readers import read_raw
from jobs.errors import DamagedFile, MissingData

COLUMNS = ("finetuned_seed", "test_image", "predicted_label", "train_images", "values", "dataset_sha256")
"""What is read besides the columns of the curves."""

_MOST_LABELS = 10
_CELL_INCHES = 0.85


class Examples(NamedTuple):
    """Some test images of one dataset, and what stands first for each in each source's network."""

    name: str
    title: str
    numbers: pd.DataFrame
    """A row for each test image and source (and choice)."""
    png: bytes | None
    """None: the dataset's images are not on this machine."""


def examples(influences: pd.DataFrame) -> Iterator[Examples]:
    """The first test image of each label, for each kind of network and measure; networks of the lowest seed.

    Args:
        influences: rows of the kind ``influence``, with the columns of the curves and ``COLUMNS``.

    Raises:
        DamagedFile: as ``influence_figure``, and for a row without training images, or with images that are not there.
    """
    require_weighed(influences)
    for number, ((dataset, *_, measure), rows) in enumerate(influences.groupby(list(SHOWN), sort=True), 1):
        trials = rows.drop_duplicates("trial_id")
        named = rows.assign(
            source=rows["trial_id"].map(dict(zip(trials["trial_id"], curve_names(trials), strict=True)))
        )
        one_each = named[rows["finetuned_seed"] == rows["finetuned_seed"].min()].sort_values(["trial_id", "test_image"])
        one_each = one_each.drop_duplicates(["source", "test_image"])
        firsts = one_each.groupby("test_label")["test_image"].min().head(_MOST_LABELS)
        shown = one_each[one_each["test_image"].isin(firsts)].sort_values(["source", "test_label"])
        numbers = shown[["source", "test_image", "test_label", "predicted_label"]].assign(
            train_image=_firsts(shown, "train_images").astype(int),
            train_label=_firsts(shown, "train_labels").astype(int),
            value=_firsts(shown, "values"),
        )
        raw = images_at_hand(str(dataset), str(shown["dataset_sha256"].iloc[0]))
        yield Examples(
            name=picture_name("figure6", number, str(dataset), str(measure)),
            title=f"{network_words(shown.iloc[0].to_dict(), influences)}: {MEASURES[str(measure)]}",
            numbers=numbers.reset_index(drop=True),
            png=None if raw is None else _drawn(numbers.assign(trial_id=shown["trial_id"]), raw),
        )


def _firsts(rows: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """The first number of each row's list."""
    return np.array([numbers_of(row, column)[0] for row in rows.to_dict("records")])


@lru_cache(maxsize=1)
def images_at_hand(dataset: str, sha256: str) -> Raw | None:
    """A dataset's images, if those that were shown are on this machine."""
    card = registry.datasets().get(dataset)
    try:
        raw = None if card is None else read_raw(card)
    except (MissingData, DamagedFile):
        return None
    if raw is None or card is None or card.altered or card.shown_digest(raw.sha256) != sha256:
        return None
    return raw


def _drawn(numbers: pd.DataFrame, raw: Raw) -> bytes:
    """Test images above, and under them a row for each source, with the labels; PNG. No source needs all images."""
    sources = list(numbers["source"].unique())
    tests = numbers.drop_duplicates("test_image")
    places = list(tests["test_image"])
    with mpl.rc_context({**PLAIN_TEXT, "font.size": SMALLEST_POINTS, "figure.dpi": 200}):
        left = max(text_inches(name, SMALLEST_POINTS) for name in ("test image", *sources)) + 0.1
        cell = min(_CELL_INCHES, (WIDTH_INCHES - left) / len(tests))
        high = (cell + 0.16) * (len(sources) + 1)
        canvas = Canvas(figsize=(WIDTH_INCHES, high))
        axes = canvas.subplots(len(sources) + 1, len(tests), squeeze=False)
        canvas.subplots_adjust(
            left=left / WIDTH_INCHES,
            right=(left + cell * len(tests) - 0.02) / WIDTH_INCHES,
            bottom=0.02 / high,
            top=1 - 0.14 / high,
            wspace=0.08,
            hspace=0.16 / cell,
        )
        for row, name in enumerate(["test image", *sources]):
            axes[row, 0].set_ylabel(name, rotation=0, ha="right", va="center")
            found = tests if row == 0 else numbers[numbers["source"] == name]
            part, which = (raw.test, "test") if row == 0 else (raw.train, "train")
            for ax in axes[row]:
                ax.set(xticks=[], yticks=[])
            for one in found.to_dict("records"):
                ax, name = axes[row, places.index(one["test_image"])], f"{which}_image"
                ax.imshow(image_of(part, one[name], one, name), cmap="gray")
                ax.set_title(str(one[f"{which}_label"]), fontsize=SMALLEST_POINTS, pad=2)
        buffer = io.BytesIO()
        canvas.savefig(buffer, format="png")
    return buffer.getvalue()
