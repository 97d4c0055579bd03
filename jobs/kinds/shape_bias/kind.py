"""The kind ``shape_bias``: decisions of networks on images with conflicting cues."""

from collections.abc import Callable, Sequence
from typing import Any

from jobs.catalog.catalog import Catalog
from jobs.catalog.categories import in_categories
from jobs.catalog.dataset_card import DatasetCard
from jobs.errors import Mistake
from jobs.kind import RESULT_BYTES, Kind, ResultRow, Stage, Workload
from jobs.kinds.diagnostic.problems import label_problems, section_problems
from jobs.kinds.rules import unknown_labels
from jobs.kinds.shape_bias.columns import ROWS
from jobs.kinds.shape_bias.spec import ShapeBiasSection, ShapeBiasSpec, expand

_ROW_BYTES = 10
"""Measured bytes of a result per image."""


def problems(spec: ShapeBiasSpec, catalog: Catalog) -> list[Mistake]:
    """Require images with conflicting cues, and a network that can decide between their labels."""
    return label_problems(spec, catalog, undecidable(catalog))


def undecidable(catalog: Catalog) -> Callable[[DatasetCard, DatasetCard], str | None]:
    """Return a function that returns why a network cannot decide between shape and texture of a dataset's images.

    It returns None if the network can. Its arguments are the dataset whose labels the network knows, and the dataset
    that is shown.
    """

    def mismatch(known: DatasetCard, shown: DatasetCard) -> str | None:
        if not shown.conflicting:
            made = ", ".join(name for name, card in catalog.datasets.items() if card.conflicting)
            return f"expected images with conflicting cues, such as those of {made}; {shown.name} has none"
        return None if in_categories(known, shown) else unknown_labels(known, shown)

    return mismatch


def workload(spec: ShapeBiasSpec, catalog: Catalog) -> Workload:
    """Count every test image once."""
    batch, images = spec.recipe.evaluation_batch_size, catalog.dataset(spec.dataset).test
    return Workload(
        architecture=catalog.architecture_of(spec.source),
        gradient_blocks=0,
        batch_size=batch,
        evaluation_batch_size=batch,
        images_evaluated=images,
        result_bytes=RESULT_BYTES + images * _ROW_BYTES,
    )


def row_numbers(first: ResultRow, numbers: Sequence[Any]) -> Sequence[Any]:
    """Return the indices of all test images."""
    return range(len(numbers))


KIND = Kind(
    spec=ShapeBiasSpec,
    stage=Stage.DIAGNOSTICS,
    rows=ROWS,
    workload=workload,
    problems=problems,
    row_numbers=row_numbers,
    trial="jobs.kinds.shape_bias.trial:ShapeBiasTrial",
    section=ShapeBiasSection,
    section_description="networks whose shape bias is measured; without this section, none",
    section_problems=section_problems,
    expand=expand,
    report_section="analysis.figures.shape_bias:SECTION",
)
