"""How often the training images that a test image owes most to have its label (Figure 7b of the paper)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.figures.attacks import NETWORKS, network_words
from analysis.figures.intact import matrix, require_known, require_tuned
from analysis.figures.model import FEW, POINTS, Figure, Panel
from analysis.figures.points import mean_points
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
SHOWN = (*NETWORKS, "measure")
"""What the trials of one panel have in common."""

CHOICES = ("damping", "cutoff_absolute", "cutoff_relative", "decomposition", "recipe", "numerics", "top")
"""What those of one curve have in common besides."""

_MEANING = (
    "First stand those whose influence on the test image's loss is smallest (they help most), or those most alike "
    "by the Fisher kernel; shares are means over the test images. Both see the last layer alone, where images of one "
    "label push the same logits: no likeness follows."
)

MEASURES = {
    "influence": "influence",
    "pseudo-inverse": "influence by the pseudo-inverse",
    "fisher": "Fisher kernel",
}


def influence_figure(influences: pd.DataFrame) -> Figure | None:
    """Label match against k, a panel for each kind of network and measure; None without any trial.

    Args:
        influences: rows of the kind ``influence`` with ``COLUMNS``.

    Raises:
        DamagedFile: for a row that does not tell its network or measure, and for labels that have not one length.
    """
    if influences.empty:
        return None
    require_weighed(influences)
    matches = pd.DataFrame(list(_matches(influences)))
    return Figure(
        name="influences",
        title="Labels of the most influential training images",
        caption="Of the k training images that stand first for a test image, the share that has its label.",
        panels=tuple(_panels(matches)),
        intervals=f"{_MEANING} {FEW}",
    )


def require_weighed(influences: pd.DataFrame) -> None:
    """Every row tells its network, and a measure that there is. Raises DamagedFile, naming the first that does not."""
    require_tuned(influences)
    require_known(influences, "measure", MEASURES)


def label_match(train_labels_MT: NDArray[np.int64], test_labels_M: NDArray[np.int64]) -> Floats:
    """For k = 1 to T, how many of the first k training images have the test image's label: percent, T."""
    matches_MT = train_labels_MT == test_labels_M[:, None]
    return np.asarray(100 * matches_MT.mean(0).cumsum() / np.arange(1, matches_MT.shape[1] + 1))


def _matches(influences: pd.DataFrame) -> Iterator[dict[Any, Any]]:
    """A row for each trial and k."""
    for _, rows in influences.groupby("trial_id", sort=True):
        trial = rows.iloc[0].to_dict()
        matches = label_match(matrix(rows, "train_labels").astype(np.int64), rows["test_label"].to_numpy())
        for k, match in enumerate(matches.tolist(), 1):
            yield {**trial, "k": k, "match": match}


def _panels(matches: pd.DataFrame) -> Iterator[Panel]:
    for (*_, measure), shown in matches.groupby(list(SHOWN), sort=True):
        title = f"{network_words(shown.iloc[0].to_dict(), matches)}: {MEASURES[str(measure)]}"
        yield Panel(title=title, quantity="match", against="k", points=_points(shown), by="source")


def _points(rows: pd.DataFrame) -> pd.DataFrame:
    table = mean_points(rows, ["source", *CHOICES], "k", "match")
    made = table.assign(
        series=table["source"], arm=table["source"], variant=choice_words(table), x=table["k"], whole=False
    )
    return made[list(POINTS)]


def curve_names(table: pd.DataFrame) -> list[str]:
    """The source of each row, and what tells rows of one source apart besides."""
    return [", ".join(filter(None, one)) for one in zip(table["source"], choice_words(table), strict=True)]


def choice_words(table: pd.DataFrame) -> list[str]:
    """What tells the rows of one panel apart besides the source."""
    varying = [name for name in CHOICES if table[name].nunique(dropna=False) > 1]
    return [", ".join(f"{name} {row[name]}" for name in varying) for row in table.to_dict("records")]
