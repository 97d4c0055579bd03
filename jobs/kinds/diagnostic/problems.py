"""Rules for examining a network: it must be possible, have weights, and know the labels of its images. No torch."""

from collections.abc import Callable, Sequence

from jobs.catalog.catalog import Catalog
from jobs.catalog.dataset_card import DatasetCard
from jobs.catalog.source_card import SourceCard
from jobs.errors import Code, Mistake, Place
from jobs.kinds.diagnostic.spec import DiagnosticSection, DiagnosticSpec
from jobs.kinds.finetune.problems import problems as finetuning_problems
from jobs.kinds.finetune.spec import FinetuneSpec, images_used
from jobs.kinds.rules import impossible, unknown_names


def network_problems(spec: DiagnosticSpec, catalog: Catalog) -> list[Mistake]:
    """Require a possible network with weights, and a known dataset."""
    if isinstance(spec.network, FinetuneSpec):
        broken = finetuning_problems(spec.network, catalog)
    else:
        broken = unknown_names((catalog.source, spec.source))
    if broken:
        return broken
    source = catalog.source(spec.source)
    if source.random and isinstance(spec.network, str):
        return impossible(
            f"network: {spec.source} has no weights (drawn from each trial's seed); examine trials fine-tuned from it"
        )
    if unknown := unknown_names((catalog.architecture, source.architecture)):
        return unknown
    if spec.dataset == source.test_dataset and spec.dataset not in catalog.datasets:
        return _unknown_labels(source)
    return unknown_names((catalog.dataset, spec.dataset))


def _unknown_labels(source: SourceCard) -> list[Mistake]:
    message = f"network: the labels of {source.name} are those of {source.test_dataset!r}, which is not a known dataset"
    return [Mistake(Code.UNKNOWN_NAME, Place(key="network"), message)]


def label_problems(
    spec: DiagnosticSpec,
    catalog: Catalog,
    mismatch: Callable[[DatasetCard, DatasetCard], str | None],
) -> list[Mistake]:
    """Require a possible network with weights that knows the labels of the images it is shown.

    Args:
        mismatch: returns why a network with one dataset's labels cannot be shown another's images, or None.
    """
    return network_problems(spec, catalog) or mismatched(spec, catalog, mismatch)


def mismatched(
    spec: DiagnosticSpec,
    catalog: Catalog,
    mismatch: Callable[[DatasetCard, DatasetCard], str | None],
) -> list[Mistake]:
    """Check the labels, as in ``label_problems``, for a network without other problems."""
    source = catalog.source(spec.source)
    known = source.test_dataset if isinstance(spec.network, str) else spec.network.dataset
    if known not in catalog.datasets:
        return _unknown_labels(source)
    message = mismatch(catalog.dataset(known), catalog.dataset(spec.dataset))
    return [] if message is None else impossible(f"dataset: {message}")


def section_problems(section: DiagnosticSection, tuned: Sequence[FinetuneSpec], catalog: Catalog) -> list[Mistake]:
    """Require sources or fine-tuning trials; their sizes, and as many seeds of each, must be in the schedule."""
    requested, mistakes = section.finetuned, []
    if requested is None:
        if not getattr(section, "source", ()):
            message = "expected source models (source), fine-tuning trials (finetuned), or both; got neither"
            mistakes.append(Mistake(Code.MISSING_KEY, Place(), message))
        return mistakes
    of_size = _seeds_by_size(tuned, catalog)
    for images in requested.images:
        if images not in of_size:
            known = dict.fromkeys(images_used(spec, catalog) for spec in tuned)
            message = f"no row of the schedule has {images} images; available: {[*known]}"
            mistakes.append(Mistake(Code.IMPOSSIBLE_TRIAL, Place(key="images"), message, images))
        elif requested.seeds > (seeds := of_size[images]):
            message = f"the schedule has {seeds} seeds of {images} images; got {requested.seeds}"
            mistakes.append(Mistake(Code.IMPOSSIBLE_TRIAL, Place(key="seeds"), message, requested.seeds))
    return mistakes


def _seeds_by_size(tuned: Sequence[FinetuneSpec], catalog: Catalog) -> dict[int, int]:
    """Return the number of seeds of each size, both as it is written and in images; of datasets, the fewest counts."""
    found: dict[int, dict[str, set[int]]] = {}
    for spec in tuned:
        for images in {spec.images, images_used(spec, catalog)}:
            found.setdefault(images, {}).setdefault(spec.dataset, set()).add(spec.seed)
    return {images: min(map(len, by_dataset.values())) for images, by_dataset in found.items()}
