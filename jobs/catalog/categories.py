"""Label compatibility: equal labels, or ImageNet's labels mapped to the 16 categories of Geirhos et al. No torch."""

from functools import cache
from importlib import resources

from jobs.catalog.catalog import packaged_datasets
from jobs.catalog.dataset_card import DatasetCard
from jobs.specs.canonical import digest
from jobs.system.safe_yaml import load_packaged


@cache
def categories() -> dict[str, tuple[int, ...]]:
    """Return the sixteen categories sorted by name, each with its ImageNet labels (indices from 0)."""
    text = resources.files(__package__).joinpath("categories.yaml").read_text(encoding="utf-8")
    return {
        name: tuple(number for part in parts for number in _numbers(part))
        for name, parts in sorted(load_packaged(text).items())
    }


def _numbers(part: int | str) -> range:
    first, _, last = str(part).partition("-")
    return range(int(first), int(last or first) + 1)


def same_labels(known: DatasetCard, shown: DatasetCard) -> bool:
    """Return whether two datasets have equal labels in equal order: same files, or equal label names."""
    by_name = known.label_names is not None and known.label_names == shown.label_names
    return known.labels == shown.labels and (by_name or known.files_of == shown.files_of)


def in_categories(known: DatasetCard, shown: DatasetCard) -> bool:
    """Return whether the known labels are ImageNet's and the shown ones are the sixteen categories."""
    imagenet, sixteen = packaged_datasets()["imagenet"].label_names, digest(list(categories()))
    return known.label_names == imagenet and shown.label_names == sixteen
