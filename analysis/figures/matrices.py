"""Every training image against every test image, both sorted by label (Figure 7a of the paper)."""

import io
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from analysis.cells import FEW_PAIRS
from analysis.figures.attacks import network_words
from analysis.figures.influences import CHOICES, MEASURES, SHOWN, curve_names, require_weighed
from analysis.figures.intact import damaged, matrix
from analysis.figures.layout import TEXT_POINTS, wrapped
from analysis.figures.names import picture_name
from analysis.figures.points import CONFIDENCE
from analysis.figures.style import PLAIN_TEXT, SMALLEST_POINTS, WIDTH_INCHES
from analysis.statistics.paired_t import Floats, half_width, moments

COLUMNS = ("finetuned_seed", "test_image", "images_used", "matrix_norm", "cells", "cell_labels")
"""What is read besides the columns of the curves."""

_LABELS_TOLD = 20
_CLIPPED = 99.0  # percent of the cells have their own colour; few strong ones would leave the others white
_MOST_BESIDE = 3
_SCALE_INCHES = 0.7  # the bar of colours, and its numbers and name
_CURVE = ["source", *CHOICES]


class Matrix(NamedTuple):
    """The matrix of one trial, reduced to groups of images of one label, its root mean square being 1."""

    cells_HG: Floats
    """Groups of test images by groups of training images."""
    test_labels_H: NDArray[np.int64]
    train_labels_G: NDArray[np.int64]

    @property
    def same(self) -> float:
        """The mean of the cells whose test and training images have one label."""
        return float(self.cells_HG[self._diagonal].mean()) if self._diagonal.any() else np.nan

    @property
    def other(self) -> float:
        return float(self.cells_HG[~self._diagonal].mean()) if not self._diagonal.all() else np.nan

    @property
    def _diagonal(self) -> NDArray[np.bool_]:
        return np.asarray(self.test_labels_H[:, None] == self.train_labels_G)


class Matrices(NamedTuple):
    """The matrices of all sources' networks of one kind, side by side."""

    name: str
    title: str
    numbers: pd.DataFrame
    """A row for each source (and choice): means over its trials, in root mean squares of their matrices."""
    png: bytes
    """Of the networks of the lowest seed."""


def matrices(influences: pd.DataFrame) -> Iterator[Matrices]:
    """A picture for each kind of network and measure.

    Args:
        influences: rows of the kind ``influence``, with the columns of the curves and ``COLUMNS``.

    Raises:
        DamagedFile: as ``influence_figure`` and ``matrix_of``.
    """
    require_weighed(influences)
    for number, ((dataset, *_, measure), rows) in enumerate(influences.groupby(list(SHOWN), sort=True), 1):
        firsts = rows.drop_duplicates("trial_id")
        found = {str(trial): matrix_of(of_one) for trial, of_one in rows.groupby("trial_id")}
        trials = firsts.assign(
            same=[found[trial].same for trial in firsts["trial_id"]],
            other=[found[trial].other for trial in firsts["trial_id"]],
        )
        curves = trials.sort_values([*_CURVE, "finetuned_seed"], kind="stable").groupby(_CURVE, dropna=False)
        lowest = curves.head(1)
        words = curve_names(lowest)
        yield Matrices(
            name=picture_name("figure7a", number, str(dataset), str(measure)),
            title=f"{network_words(rows.iloc[0].to_dict(), influences)}: {MEASURES[str(measure)]}",
            numbers=_numbers(trials).assign(source=words),
            png=_drawn([found[trial] for trial in lowest["trial_id"]], words, str(measure)),
        )


def matrix_of(rows: pd.DataFrame) -> Matrix:
    """The matrix of one trial from all its rows.

    Raises:
        DamagedFile: when no row has cells, when cells and labels have not one length or are not finite, or when their
            norm and count are none.
    """
    held = rows[rows["cells"].notna()].sort_values(["test_label", "test_image"])
    if held.empty:
        rule = "the first test image of each group has cells"
        raise damaged(rows.iloc[0].to_dict(), "cells", rule, "null in all rows")
    first = held.iloc[0].to_dict()
    cells_HG, labels_HG = matrix(held, "cells"), matrix(held, "cell_labels")
    if cells_HG.shape != labels_HG.shape or (labels_HG != labels_HG[0]).any():
        lengths = f"{labels_HG.shape[1]} labels for {cells_HG.shape[1]} cells, or not the same in all rows"
        rule = "cell_labels has one label for each of cells, the same in all rows"
        raise damaged(first, "cell_labels", rule, lengths)
    norm, count = float(first["matrix_norm"]), int(first["images_used"])
    if not (math.isfinite(norm) and norm >= 0 and count >= 1):
        rule = "matrix_norm is finite and at least 0, images_used at least 1"
        raise damaged(first, "matrix_norm", rule, f"matrix_norm {norm:g}, images_used {count}")
    mean_square = norm**2 / (len(rows) * count)
    return Matrix(
        cells_HG / np.sqrt(mean_square) if mean_square > 0 else cells_HG,
        held["test_label"].to_numpy(np.int64),
        labels_HG[0].astype(np.int64),
    )


def _numbers(trials: pd.DataFrame) -> pd.DataFrame:
    """Means over trials, and the interval of the difference where there are enough to say much."""
    groups = trials.groupby(_CURVE, sort=True, dropna=False)
    table = groups[["same", "other"]].mean().reset_index()
    found = moments((trials["same"] - trials["other"]).to_numpy(np.float64), groups.ngroup().to_numpy(), len(table))
    half = np.where(found.n >= FEW_PAIRS, half_width(found, CONFIDENCE), np.nan)
    return table.assign(difference=found.mean, low=found.mean - half, high=found.mean + half, networks=found.n)[
        ["source", "same", "other", "difference", "low", "high", "networks"]
    ]


def _drawn(shown: Sequence[Matrix], titles: Sequence[str], measure: str) -> bytes:
    """One picture a network, with one scale of colours for all; PNG."""
    limit = float(np.percentile(np.abs(np.concatenate([one.cells_HG.ravel() for one in shown])), _CLIPPED)) or 1.0
    with mpl.rc_context({**PLAIN_TEXT, "font.size": SMALLEST_POINTS, "figure.dpi": 200}):
        rows = math.ceil(len(shown) / _MOST_BESIDE)
        beside = math.ceil(len(shown) / rows)
        high = (WIDTH_INCHES - _SCALE_INCHES) / max(beside, 2) + 0.4
        canvas = Canvas(figsize=(WIDTH_INCHES, high * rows), layout="constrained")
        axes = list(canvas.subplots(rows, beside, squeeze=False).flat)
        for ax in axes[len(shown) :]:
            ax.set_axis_off()
        for number, (ax, one, title) in enumerate(zip(axes, shown, titles, strict=False)):
            image = _picture(ax, one, limit, measure)
            ax.set_title("\n".join(wrapped(title, TEXT_POINTS, WIDTH_INCHES / beside - 0.6)), fontsize=TEXT_POINTS)
            if number % beside == 0:
                ax.set_ylabel("test images, by label")
        sign = "similarity" if measure == "fisher" else "influence (below 0 helps)"
        canvas.colorbar(image, ax=axes, shrink=0.8, label=f"{sign}, root mean square = 1")
        buffer = io.BytesIO()
        canvas.savefig(buffer, format="png")
    return buffer.getvalue()


def _picture(ax: Axes, one: Matrix, limit: float, measure: str) -> AxesImage:
    """What helps, or is alike, is blue."""
    blue_last = "RdBu" if measure == "fisher" else "RdBu_r"
    image = ax.imshow(one.cells_HG, cmap=blue_last, vmin=-limit, vmax=limit, interpolation="nearest", aspect="auto")
    ax.set_xlabel("training images, by label")
    for labels, axis in ((one.train_labels_G, ax.xaxis), (one.test_labels_H, ax.yaxis)):
        names, starts, counts = np.unique(labels, return_index=True, return_counts=True)
        told = len(names) <= _LABELS_TOLD
        axis.set_ticks(starts + (counts - 1) / 2 if told else [], names.astype(str) if told else [])
    return image
