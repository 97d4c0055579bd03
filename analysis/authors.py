"""The format in which the paper's authors published their trials.

``results/consolidated_results.csv`` in the history of utrerf/robust_transfer_learning on GitHub, one row
per trial and evaluated epoch.
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
"""``source_eps``: the radius alone; 3 is L2's, 4 and 8 are L-infinity's in 255ths, -1 is no source at all."""

COLUMNS = (*_RENAMED, _SOURCE)
"""That a file in their format must have."""


def recognises(data: pd.DataFrame) -> bool:
    """Whether a file is the authors', by columns that no tidy file has."""
    return {"nat_prec1", _SOURCE, "target_ds"} <= set(data.columns)


def tidy(data: pd.DataFrame, file: Path) -> pd.DataFrame:
    """The same rows in the tidy columns; the authors' other columns (an index, unused adversarial ones) are left.

    Args:
        file: where they are from, for messages only.

    Raises:
        InvalidRequest: for missing columns, or a source that the paper does not have.
    """
    missing = [name for name in (*_RENAMED, _SOURCE) if name not in data.columns]
    if missing:
        raise InvalidRequest(
            Code.MISSING_KEY,
            f"a file in the authors' format has the columns {', '.join((*_RENAMED, _SOURCE))}; missing: {missing}",
            file=file,
            line=1,
            key=missing[0],
        )
    unknown = sorted(set(data[_SOURCE]) - set(_NAMES))
    if unknown:
        raise InvalidRequest(
            Code.UNKNOWN_NAME,
            f"{_SOURCE} is one of {sorted(_NAMES)} (the paper's sources); found {unknown}",
            file=file,
            key=_SOURCE,
        )
    return data[list(_RENAMED)].rename(columns=_RENAMED).assign(source=data[_SOURCE].map(_NAMES))
