"""Descriptions of the networks that trials examined: sources, or networks fine-tuned from them in the same way."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from jobs.specs.base import ALL

NETWORKS = ("dataset", "blocks", "images", "finetuned_epochs", "finetuned_recipe")
"""Columns in which the networks of one panel agree."""


def network_words(row: Mapping[Any, Any], rows: pd.DataFrame) -> str:
    """Describe the networks of a row; includes how they were fine-tuned where this varies in ``rows``."""
    if pd.isna(row["finetuned"]):
        return f"{row['dataset']}, sources"
    blocks, images = (
        f"all {name}" if row[name] == ALL else f"{row[name]:,.0f} {name}" for name in ("blocks", "images")
    )
    ways = {"finetuned_epochs": "{:.0f} epochs", "finetuned_recipe": "recipe {}"}
    differences = [words.format(row[name]) for name, words in ways.items() if rows[name].nunique() > 1]
    return ", ".join([row["dataset"], blocks, images, *differences])
