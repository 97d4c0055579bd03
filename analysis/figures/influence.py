"""How often the most influential training images have the test image's label (Figure 7b of the paper)."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.figures.drawing.axis import Axis, percent
from analysis.figures.drawing.model import FEW, POINTS, Figure, Panel
from analysis.figures.exhibits import KindExhibits, Topic, figure_topic, picture_topic
from analysis.figures.influence_examples import COLUMNS as EXAMPLE_COLUMNS
from analysis.figures.influence_examples import examples
from analysis.figures.influence_matrices import COLUMNS as MATRIX_COLUMNS
from analysis.figures.influence_matrices import matrices
from analysis.figures.influence_rows import CHOICES, MEASURES, SHOWN, choice_words, require_weighed, varying_choices
from analysis.figures.networks import network_words
from analysis.figures.row_validation import matrix
from analysis.statistics.grouped import curve_means
from analysis.statistics.paired_t import Floats

COLUMNS = (
    "trial_id",
    "source",
    "finetuned",
    "finetuned_seed",
    "dataset",
    "blocks",
    "images",
    "finetuned_epochs",
    "finetuned_recipe",
    "recipe",
    "numerics",
    "measure",
    "damping",
    "cutoff_absolute",
    "cutoff_relative",
    "decomposition",
    "top",
    "test_label",
    "train_labels",
)
_MATCH = percent("match", "of the same label")
_K = Axis(column="k", label="k", whole=True)
_MEANING = (
    "Training images are ranked by their influence on the test image's loss, the smallest first (these reduce the loss "
    "most), or by the Fisher kernel, the most similar first; shares are averaged over the test images. Both measures "
    "use only the last layer, where images of one label push the same logits: a common label does not imply visual "
    "similarity."
)


def influence_figure(influences: pd.DataFrame) -> Figure | None:
    """Return the label match by k, with one panel per type of network and measure; None if there is no trial.

    Args:
        influences: rows of the kind ``influence`` with ``COLUMNS``.

    Raises:
        DamagedFile: for a row without its network or a known measure, and for lists of labels of different lengths.
    """
    if influences.empty:
        return None
    require_weighed(influences)
    matches = pd.DataFrame(list(_matches(influences)))
    return Figure(
        name="influences",
        title="Labels of the most influential training images",
        caption="Of the k training images ranked first for each test image, the share with the same label.",
        panels=tuple(_panels(matches)),
        intervals=f"{_MEANING} {FEW}",
    )


def label_match(train_labels_MT: NDArray[np.int64], test_labels_M: NDArray[np.int64]) -> Floats:
    """Return, for k = 1 to T, the percentage of the first k training images with the test image's label; shape T."""
    matches_MT = train_labels_MT == test_labels_M[:, None]
    return np.asarray(100 * matches_MT.mean(0).cumsum() / np.arange(1, matches_MT.shape[1] + 1))


def _matches(influences: pd.DataFrame) -> Iterator[dict[Any, Any]]:
    """Yield a row for each trial and k."""
    for _, rows in influences.groupby("trial_id", sort=True):
        trial = rows.iloc[0].to_dict()
        matches = label_match(matrix(rows, "train_labels").astype(np.int64), rows["test_label"].to_numpy())
        for k, match in enumerate(matches.tolist(), 1):
            yield {**trial, "k": k, "match": match}


def _panels(matches: pd.DataFrame) -> Iterator[Panel]:
    groups = matches.groupby(list(SHOWN), sort=True)
    varying = varying_choices(shown for _, shown in groups)
    for (*_, measure), shown in groups:
        title = f"{network_words(shown.iloc[0].to_dict(), matches)}: {MEASURES[str(measure)]}"
        yield Panel(title=title, quantity=_MATCH, against=_K, points=_points(shown, varying), by="source")


def _points(rows: pd.DataFrame, varying: Sequence[str]) -> pd.DataFrame:
    table = curve_means(rows, ["source", *CHOICES], "k", "match")
    words = choice_words(table, varying)
    points = table.assign(series=table["source"], arm=table["source"], variant=words, x=table["k"], whole=False)
    return points[list(POINTS)]


def _topics(influences: pd.DataFrame) -> Iterator[Topic]:
    figure = influence_figure(influences)
    if figure is not None:
        words = ("networks and measure", "source", "variant")
        columns = (*words, "k", "same label", "low", "high", "trials")
        yield figure_topic(figure, "Figure 7b of the paper", columns, words)
    yield from picture_topic("Diagnostics: influence by label", matrices(influences))
    yield from picture_topic("Diagnostics: most influential training images", examples(influences))


SECTION = KindExhibits(columns=tuple(dict.fromkeys([*COLUMNS, *EXAMPLE_COLUMNS, *MATRIX_COLUMNS])), topics=_topics)
