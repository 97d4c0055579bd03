"""The most influential training image of some test images, for all sources side by side (Figure 6 of the paper)."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from analysis.figures.drawing.layout import text_inches
from analysis.figures.drawing.style import SMALLEST_POINTS, WIDTH_INCHES
from analysis.figures.exhibits import Exhibit
from analysis.figures.influence_rows import MEASURES, SHOWN, curve_names, require_weighed
from analysis.figures.networks import network_words
from analysis.figures.pictures import drawn_pictures, images_at_hand, picture_name, png
from analysis.figures.row_validation import image_of
from analysis.figures.row_validation import numbers as numbers_of
from jobs.data.raw import Raw

COLUMNS = ("finetuned_seed", "test_image", "predicted_label", "train_images", "values", "dataset_sha256")
"""Columns that are read in addition to those of the curves."""

_CAPTION = (
    "The first test image of each label and, below it, the training image ranked first for it by each source's network "
    "of {seed}; labels are given above the images. These are examples: the curves use all test images."
)
_NOT_DRAWN = "The images that were used are not available on this machine; the table gives their indices."
_NAMES = ("source", "test image", "test label", "predicted label", "training image", "training label", "value")
_MOST_LABELS = 10
_CELL_INCHES = 0.85


def examples(influences: pd.DataFrame) -> Iterator[Exhibit]:
    """Yield the first test image of each label, for each type of network and measure, by one network of each source.

    Args:
        influences: rows of the kind ``influence``, with the columns of the curves and ``COLUMNS``.

    Raises:
        DamagedFile: as ``influence_figure``, and for a row without training images or with images that do not exist.
    """
    require_weighed(influences)
    for number, ((dataset, *_, measure), rows) in enumerate(influences.groupby(list(SHOWN), sort=True), 1):
        trials = rows.drop_duplicates("trial_id")
        named = rows.assign(
            source=rows["trial_id"].map(dict(zip(trials["trial_id"], curve_names(trials), strict=True)))
        )
        seeds, which = _seeds(named)
        one_each = named[named["finetuned_seed"] == named["source"].map(seeds)].sort_values(["trial_id", "test_image"])
        one_each = one_each.drop_duplicates(["source", "test_image"])
        firsts = one_each.groupby("test_label")["test_image"].min().head(_MOST_LABELS)
        shown = one_each[one_each["test_image"].isin(firsts)].sort_values(["source", "test_label"])
        numbers = shown[["source", "test_image", "test_label", "predicted_label"]].assign(
            train_image=_firsts(shown, "train_images").astype(int),
            train_label=_firsts(shown, "train_labels").astype(int),
            value=_firsts(shown, "values"),
        )
        raw = images_at_hand(str(dataset), str(shown["dataset_sha256"].iloc[0]))
        caption = _CAPTION.format(seed=which)
        picture = None if raw is None else _drawn(numbers.assign(trial_id=shown["trial_id"]), raw)
        yield Exhibit(
            like="Figure 6 of the paper",
            name=picture_name("figure6", number, str(dataset), str(measure)),
            title=f"{network_words(shown.iloc[0].to_dict(), influences)}: {MEASURES[str(measure)]}",
            caption=caption if picture else f"{caption} {_NOT_DRAWN}",
            numbers=numbers.reset_index(drop=True),
            columns=_NAMES,
            right=frozenset(_NAMES[1:]),
            png=picture,
        )


def _seeds(named: pd.DataFrame) -> tuple[dict[str, int], str]:
    """Return the fine-tuning seed of each curve: the lowest that all have, or else its own lowest; and words on it."""
    seeds = {str(name): set(of) for name, of in named.groupby("source")["finetuned_seed"]}
    if shared := set.intersection(*seeds.values()):
        lowest = min(shared)
        alike = all(min(of) == lowest for of in seeds.values())
        return dict.fromkeys(seeds, lowest), "the lowest seed" if alike else "the lowest seed that all have"
    return {name: min(of) for name, of in seeds.items()}, "its own lowest seed, since no seed is shared by all"


def _firsts(rows: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """The first number of each row's list."""
    return np.array([numbers_of(row, column)[0] for row in rows.to_dict("records")])


def _drawn(numbers: pd.DataFrame, raw: Raw) -> bytes:
    """Draw test images with their labels, and below them one row per source; PNG. Sources may lack some images."""
    sources = list(numbers["source"].unique())
    tests = numbers.drop_duplicates("test_image")
    places = list(tests["test_image"])
    with drawn_pictures():
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
            shown = tests if row == 0 else numbers[numbers["source"] == name]
            part, which = (raw.test, "test") if row == 0 else (raw.train, "train")
            for ax in axes[row]:
                ax.set(xticks=[], yticks=[])
            for example in shown.to_dict("records"):
                ax, name = axes[row, places.index(example["test_image"])], f"{which}_image"
                ax.imshow(image_of(part, example[name], example, name), cmap="gray")
                ax.set_title(str(example[f"{which}_label"]), fontsize=SMALLEST_POINTS, pad=2)
        return png(canvas)
