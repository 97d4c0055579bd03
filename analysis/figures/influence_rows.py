"""Rows of the kind ``influence``: which share a panel, which share a curve, and the names of the measures."""

from collections.abc import Iterable, Sequence

import pandas as pd

from analysis.figures.networks import NETWORKS
from analysis.figures.row_validation import require_known, require_tuned

SHOWN = (*NETWORKS, "measure")
"""Columns in which the trials of one panel agree."""

CHOICES = ("damping", "cutoff_absolute", "cutoff_relative", "decomposition", "recipe", "numerics", "top")
"""Further columns in which the trials of one curve agree."""

MEASURES = {
    "influence": "influence",
    "pseudo-inverse": "influence (pseudo-inverse)",
    "fisher": "Fisher kernel",
}


def require_weighed(influences: pd.DataFrame) -> None:
    """Check that every row has its network and a known measure. Raises DamagedFile for the first that does not."""
    require_tuned(influences)
    require_known(influences, "measure", MEASURES)


def curve_names(table: pd.DataFrame) -> list[str]:
    """Return a name for each row of one panel: its source, and the choices that distinguish rows of one source."""
    words = choice_words(table, varying_choices([table]))
    return [", ".join(filter(None, parts)) for parts in zip(table["source"], words, strict=True)]


def varying_choices(panels: Iterable[pd.DataFrame]) -> list[str]:
    """Return the choices that distinguish the rows of any panel: the names of curves have all of them in all panels."""
    varying = {name for table in panels for name in CHOICES if table[name].nunique(dropna=False) > 1}
    return [name for name in CHOICES if name in varying]


def choice_words(table: pd.DataFrame, varying: Sequence[str]) -> list[str]:
    """Describe each row by some choices, besides the source."""
    return [
        ", ".join(f"no {name}" if pd.isna(row[name]) else f"{name} {row[name]}" for name in varying)
        for row in table.to_dict("records")
    ]
