"""Names for what distinguishes trials besides the grid, the same in headlines, choices and legends."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

VARIANT = ("origin", "recipe", "numerics", "length")


def variant_names(trials: pd.DataFrame, words: Mapping[str, str]) -> "pd.Series[str]":
    """Return a readable description of ``VARIANT`` for each row; what all trials of an origin share is left out.

    Args:
        words: descriptions of recipes, by digest; recipes without one are named by their digest.
    """
    own = trials["origin"] != "imported"
    names = pd.Series("own trials", index=trials.index).where(own, "imported")
    described: dict[str, Callable[[Any], str]] = {
        "recipe": lambda digest: words.get(digest, f"recipe {digest}"),
        "numerics": lambda version: f"numerics {version}",
    }
    for name, text in described.items():
        for of_origin in (own, ~own):
            if trials.loc[of_origin, name].nunique() > 1:
                names = names.where(~of_origin, names + ", " + trials[name].map(text))
    return names.where(trials["length"] == "", names + ", " + trials["length"])
