"""The format in which the paper's authors published their trials.

The file is ``results/consolidated_results.csv`` in the history of utrerf/robust_transfer_learning on GitHub, with one
row per trial and evaluated epoch.
"""

from pathlib import Path

import pandas as pd

from jobs.errors import Code, InvalidRequest

_RENAMED = {
    "epoch": "epoch",
    "nat_prec1": "test_accuracy",
    "nat_loss": "test_loss",
    "train_prec1": "train_accuracy",
    "train_loss": "train_loss",
    "time": "seconds",
    "target_ds": "dataset",
    "num_training_images": "images",
    "unfrozen_blocks": "blocks",
    "seed": "seed",
}
_SOURCE = "source_eps"
_NAMES = {0: "natural", 3: "l2_eps3", 4: "linf_eps4", 8: "linf_eps8", -1: "random_init"}
"""Source names by ``source_eps``, which gives only the radius: 3 is L2, 4 and 8 are L-infinity in 255ths, and -1 is
random initialization."""

COLUMNS = (*_RENAMED, _SOURCE)
"""Columns required in a file in the authors' format."""


def recognises(data: pd.DataFrame) -> bool:
    """Whether a file is in the authors' format, judged by columns that no tidy file has."""
    return {"nat_prec1", _SOURCE, "target_ds"} <= set(data.columns)


def tidy(data: pd.DataFrame, file: Path) -> pd.DataFrame:
    """Return the same rows in the tidy columns, without the authors' other columns (an index, unused adversarial ones).

    Args:
        file: the file of the rows, used only in messages.

    Raises:
        InvalidRequest: for missing columns, or for a source that is not in the paper.
    """
    missing = [name for name in (*_RENAMED, _SOURCE) if name not in data.columns]
    if missing:
        raise InvalidRequest(
            Code.MISSING_KEY,
            f"expected the columns of the authors' format, {', '.join((*_RENAMED, _SOURCE))}; missing: {missing}",
            file=file,
            line=1,
            key=missing[0],
        )
    unknown = sorted(set(data[_SOURCE]) - set(_NAMES))
    if unknown:
        raise InvalidRequest(
            Code.UNKNOWN_NAME,
            f"expected {_SOURCE} to be one of {sorted(_NAMES)} (the paper's sources); got {unknown}",
            file=file,
            key=_SOURCE,
        )
    return data[list(_RENAMED)].rename(columns=_RENAMED).assign(source=data[_SOURCE].map(_NAMES))
