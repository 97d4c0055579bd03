"""The influence of every training image on every test image, sorted by label (Figure 7a of the paper)."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from analysis.figures.drawing.layout import TEXT_POINTS, wrapped
from analysis.figures.drawing.style import WIDTH_INCHES
from analysis.figures.exhibits import Exhibit
from analysis.figures.influence_rows import CHOICES, MEASURES, SHOWN, curve_names, require_weighed
from analysis.figures.networks import network_words
from analysis.figures.pictures import drawn_pictures, picture_name, png
from analysis.figures.row_validation import damaged, matrix
from analysis.statistics.grouped import CONFIDENCE, moments_by
from analysis.statistics.paired_t import FEW_VALUES, Floats, half_width

COLUMNS = ("finetuned_seed", "test_image", "images_used", "matrix_norm", "cells", "cell_labels")
"""Columns that are read in addition to those of the curves."""

_CAPTION = (
    "Every training image (columns) against every test image (rows), both sorted by label. Cells are means over groups "
    "of images of one label, divided by the root mean square of the whole matrix, which is its norm up to a factor. "
    "Helpful or similar images are blue. The pictures show each one's network of its lowest seed; the table covers all "
    "networks: the mean over cells with equal labels, over cells with different labels, and their difference, with "
    "95 % t intervals from five networks on."
)
_NAMES = ("source", "same label", "other labels", "difference", "low", "high", "networks")
_LABELS_TOLD = 20
_CLIPPED = 99.0  # percent of the cells within the colour scale; a few strong cells would leave the others white
_MOST_BESIDE = 3
_SCALE_INCHES = 0.7  # the colour bar with its numbers and name
_CURVE = ["source", *CHOICES]


class Matrix(NamedTuple):
    """The matrix of one trial, averaged over groups of images of one label and scaled to a root mean square of 1."""

    cells_HG: Floats
    """Shape: groups of test images, groups of training images."""
    test_labels_H: NDArray[np.int64]
    train_labels_G: NDArray[np.int64]

    @property
    def same(self) -> float:
        """The mean of the cells whose test and training images have the same label."""
        return float(self.cells_HG[self._diagonal].mean()) if self._diagonal.any() else np.nan

    @property
    def other(self) -> float:
        return float(self.cells_HG[~self._diagonal].mean()) if not self._diagonal.all() else np.nan

    @property
    def _diagonal(self) -> NDArray[np.bool_]:
        return np.asarray(self.test_labels_H[:, None] == self.train_labels_G)


def matrices(influences: pd.DataFrame) -> Iterator[Exhibit]:
    """Yield a picture for each type of network and measure.

    Args:
        influences: rows of the kind ``influence``, with the columns of the curves and ``COLUMNS``.

    Raises:
        DamagedFile: as ``influence_figure`` and ``matrix_of``.
    """
    require_weighed(influences)
    for number, ((dataset, *_, measure), rows) in enumerate(influences.groupby(list(SHOWN), sort=True), 1):
        firsts = rows.drop_duplicates("trial_id")
        by_trial = {str(trial): matrix_of(of_one) for trial, of_one in rows.groupby("trial_id")}
        trials = firsts.assign(
            same=[by_trial[trial].same for trial in firsts["trial_id"]],
            other=[by_trial[trial].other for trial in firsts["trial_id"]],
        )
        curves = trials.sort_values([*_CURVE, "finetuned_seed"], kind="stable").groupby(_CURVE, dropna=False)
        lowest = curves.head(1)
        words = curve_names(lowest)
        yield Exhibit(
            like="Figure 7a of the paper",
            name=picture_name("figure7a", number, str(dataset), str(measure)),
            title=f"{network_words(rows.iloc[0].to_dict(), influences)}: {MEASURES[str(measure)]}",
            caption=_CAPTION,
            numbers=_numbers(trials).assign(source=words),
            columns=_NAMES,
            right=frozenset(_NAMES[1:]),
            png=_drawn([by_trial[trial] for trial in lowest["trial_id"]], words, str(measure)),
        )


def matrix_of(rows: pd.DataFrame) -> Matrix:
    """Return the matrix of one trial from all its rows.

    Raises:
        DamagedFile: when no row has cells, when cells and labels differ in length or are not finite, or when the norm
            or the count is invalid.
    """
    held = rows[rows["cells"].notna()].sort_values(["test_label", "test_image"])
    if held.empty:
        rule = "the first test image of each group must have cells"
        raise damaged(rows.iloc[0].to_dict(), "cells", rule, "null in all rows")
    first = held.iloc[0].to_dict()
    cells_HG, labels_HG = matrix(held, "cells"), matrix(held, "cell_labels")
    if cells_HG.shape != labels_HG.shape or (labels_HG != labels_HG[0]).any():
        lengths = f"{labels_HG.shape[1]} labels for {cells_HG.shape[1]} cells, or different labels in some rows"
        rule = "cell_labels must have one label for each of cells, the same in all rows"
        raise damaged(first, "cell_labels", rule, lengths)
    norm, count = float(first["matrix_norm"]), int(first["images_used"])
    if not (math.isfinite(norm) and norm >= 0 and count >= 1):
        rule = "matrix_norm must be finite and at least 0, images_used at least 1"
        raise damaged(first, "matrix_norm", rule, f"matrix_norm {norm:g}, images_used {count}")
    mean_square = norm**2 / (len(rows) * count)
    return Matrix(
        cells_HG / np.sqrt(mean_square) if mean_square > 0 else cells_HG,
        held["test_label"].to_numpy(np.int64),
        labels_HG[0].astype(np.int64),
    )


def _numbers(trials: pd.DataFrame) -> pd.DataFrame:
    """Means over trials, and the interval of the difference from five networks on."""
    table = trials.groupby(_CURVE, sort=True, dropna=False)[["same", "other"]].mean().reset_index()
    _, networks = moments_by(trials.assign(difference=trials["same"] - trials["other"]), _CURVE, "difference")
    half = np.where(networks.n >= FEW_VALUES, half_width(networks, CONFIDENCE), np.nan)
    low, high = networks.mean - half, networks.mean + half
    columns = ["source", "same", "other", "difference", "low", "high", "networks"]
    return table.assign(difference=networks.mean, low=low, high=high, networks=networks.n)[columns]


def _drawn(shown: Sequence[Matrix], titles: Sequence[str], measure: str) -> bytes:
    """Draw one picture per network with a common colour scale; PNG."""
    strengths = np.abs(np.concatenate([of_trial.cells_HG.ravel() for of_trial in shown]))
    limit = float(np.percentile(strengths, _CLIPPED)) or 1.0
    with drawn_pictures():
        rows = math.ceil(len(shown) / _MOST_BESIDE)
        beside = math.ceil(len(shown) / rows)
        high = (WIDTH_INCHES - _SCALE_INCHES) / max(beside, 2) + 0.4
        canvas = Canvas(figsize=(WIDTH_INCHES, high * rows), layout="constrained")
        axes = list(canvas.subplots(rows, beside, squeeze=False).flat)
        for ax in axes[len(shown) :]:
            ax.set_axis_off()
        for number, (ax, of_trial, title) in enumerate(zip(axes, shown, titles, strict=False)):
            image = _picture(ax, of_trial, limit, measure)
            ax.set_title("\n".join(wrapped(title, TEXT_POINTS, WIDTH_INCHES / beside - 0.6)), fontsize=TEXT_POINTS)
            if number % beside == 0:
                ax.set_ylabel("test images, by label")
        sign = "similarity" if measure == "fisher" else "influence (negative: helpful)"
        canvas.colorbar(image, ax=axes, shrink=0.8, label=f"{sign}, root mean square = 1")
        return png(canvas)


def _picture(ax: Axes, shown: Matrix, limit: float, measure: str) -> AxesImage:
    """Draw one matrix, with helpful or similar images in blue."""
    blue_last = "RdBu" if measure == "fisher" else "RdBu_r"
    image = ax.imshow(shown.cells_HG, cmap=blue_last, vmin=-limit, vmax=limit, interpolation="nearest", aspect="auto")
    ax.set_xlabel("training images, by label")
    for labels, axis in ((shown.train_labels_G, ax.xaxis), (shown.test_labels_H, ax.yaxis)):
        names, starts, counts = np.unique(labels, return_index=True, return_counts=True)
        few_labels = len(names) <= _LABELS_TOLD
        axis.set_ticks(starts + (counts - 1) / 2 if few_labels else [], names.astype(str) if few_labels else [])
    return image
