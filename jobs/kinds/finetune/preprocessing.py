"""Preprocessing by a recipe: whether a trial augments or crops its images, and whose statistics normalize them."""

from jobs.catalog.catalog import Catalog
from jobs.catalog.dataset_card import DatasetCard
from jobs.catalog.source_card import SourceCard
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.specs.recipes import Recipe


def augments(spec: FinetuneSpec, catalog: Catalog) -> bool:
    """Return whether training images are augmented, so that they differ in every epoch."""
    match spec.recipe.transforms:
        case "as-published":
            return True
        case "as-released":
            return catalog.dataset(spec.dataset).colour
        case "none":
            return False


def crops_whole(spec: FinetuneSpec, catalog: Catalog) -> bool:
    """Return whether a trial takes its training crops from whole images instead of their centre squares."""
    if spec.recipe.crop != "whole-image":
        return False
    return catalog.dataset(spec.dataset).of_image_files and augments(spec, catalog)


def normalizer(recipe: Recipe, source: SourceCard, target: DatasetCard) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std by the recipe; as released, a checkpoint's normalizer replaces the target's.

    See docs/explanation/why/normalisation.md.
    """
    as_released = recipe.normalization == "as-released"
    if recipe.normalization == "target" or (as_released and not source.carries_normalizer):
        return target.channel_statistics()
    return source.mean, source.std
