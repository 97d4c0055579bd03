"""Packaged datasets and source models by name, as most tests need them."""

from pathlib import Path

from jobs.catalog.catalog import PACKAGED
from jobs.data.datasets import Dataset, load_dataset
from jobs.models.weights import SourceWeights, load_source


def packaged_dataset(
    name: str, image_size: int, directory: Path | None = None, *, whole_training: bool = False
) -> Dataset:
    """Load the dataset described by a packaged card."""
    return load_dataset(PACKAGED.dataset(name), image_size, directory, whole_training=whole_training)


def packaged_weights(name: str) -> SourceWeights:
    """Load the weights of a source described by a packaged card."""
    return load_source(PACKAGED.source(name))
