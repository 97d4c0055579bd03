"""Whether networks know the labels of images: by names, or by the sixteen categories of Geirhos et al. No torch."""

from functools import cache
from importlib import resources

import yaml

from jobs.canonical import digest
from jobs.registry import DatasetCard, packaged_datasets


@cache
def categories() -> dict[str, tuple[int, ...]]:
    """The sixteen categories in order of name, each with its labels among ImageNet's, from 0."""
    text = resources.files(__package__).joinpath("categories.yaml").read_text(encoding="utf-8")
    return {
        name: tuple(number for part in parts for number in _numbers(part))
        for name, parts in sorted(yaml.safe_load(text).items())
    }


def _numbers(part: int | str) -> range:
    first, _, last = str(part).partition("-")
    return range(int(first), int(last or first) + 1)


def same_labels(known: DatasetCard, shown: DatasetCard) -> bool:
    """Whether two datasets have the same labels in the same order: one dataset, variants of one, or equal names."""
    by_name = known.label_names is not None and known.label_names == shown.label_names
    return known.labels == shown.labels and (by_name or known.files_of == shown.files_of)


def in_categories(known: DatasetCard, shown: DatasetCard) -> bool:
    """Whether the known labels are ImageNet's, and those shown the sixteen categories."""
    imagenet, sixteen = packaged_datasets()["imagenet"].label_names, digest(list(categories()))
    return known.label_names == imagenet and shown.label_names == sixteen
