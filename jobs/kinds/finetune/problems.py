"""Rules for fine-tuning trials: names, sizes and depths must exist in the catalogue. No torch."""

from jobs.catalog.catalog import Catalog
from jobs.catalog.dataset_card import DatasetCard
from jobs.errors import Mistake
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.kinds.rules import impossible, trainable, unknown_names
from jobs.kinds.training.problems import beyond_warmup
from jobs.specs.base import ALL


def problems(spec: FinetuneSpec, catalog: Catalog) -> list[Mistake]:
    """Require a known source and dataset, a possible subset size, and enough blocks.

    The subset must have at least one image per label, and at most all training images. Epochs must remain after the
    warm-up.
    """
    return [*_of_dataset(spec, catalog), *_of_source(spec, catalog), *beyond_warmup(spec)]


def _of_dataset(spec: FinetuneSpec, catalog: Catalog) -> list[Mistake]:
    if unknown := unknown_names((catalog.dataset, spec.dataset)):
        return unknown
    card = catalog.dataset(spec.dataset)
    if untrainable := trainable(card):
        return untrainable
    if spec.images != ALL and not card.labels <= spec.images <= card.train:
        return impossible(f"images: {size_rule(card, spec.images)}")
    return []


def size_rule(card: DatasetCard, images: int) -> str:
    """Return the rule for the sizes of a dataset's subsets."""
    most = f"{card.train}, or {ALL} for all"
    return f"expected a subset of {card.name} with {card.labels} images (one per label) to {most}; got {images}"


def _of_source(spec: FinetuneSpec, catalog: Catalog) -> list[Mistake]:
    if unknown := unknown_names((catalog.source, spec.source)):
        return unknown
    architecture = catalog.source(spec.source).architecture
    if unknown := unknown_names((catalog.architecture, architecture)):
        return unknown
    blocks = len(catalog.architecture(architecture).blocks)
    if spec.blocks > blocks:
        return impossible(f"blocks: {spec.source} ({architecture}) has {blocks} blocks; got {spec.blocks}")
    return []
