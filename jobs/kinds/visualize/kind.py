"""The kind ``visualize``: feature visualization, images that maximize a feature of a network."""

from collections.abc import Iterator, Sequence
from typing import Any

from jobs.catalog.catalog import Catalog
from jobs.errors import Mistake
from jobs.kind import RESULT_BYTES, Contradiction, Kind, ResultRow, Stage, Workload
from jobs.kinds.diagnostic.problems import network_problems, section_problems
from jobs.kinds.rules import impossible, within_test_set
from jobs.kinds.visualize.columns import ROWS
from jobs.kinds.visualize.spec import VisualizeSection, VisualizeSpec, expand
from jobs.specs.base import ALL


def problems(spec: VisualizeSpec, catalog: Catalog) -> list[Mistake]:
    """Require a feature that the network has, and enough test images."""
    return network_problems(spec, catalog) or [
        *within_test_set(spec.dataset, spec.test_images, catalog),
        *_beyond_features(spec, catalog),
    ]


def _beyond_features(spec: VisualizeSpec, catalog: Catalog) -> list[Mistake]:
    architecture = catalog.architecture_of(spec.source)
    features = architecture.features
    if spec.unit < features:
        return []
    return impossible(
        f"unit: expected a feature of {spec.source} ({architecture.name}), 0 to {features - 1}; got {spec.unit}"
    )


def workload(spec: VisualizeSpec, catalog: Catalog) -> Workload:
    """Count every seed image before and after its steps; the result contains the images."""
    architecture = catalog.architecture_of(spec.source)
    batch = min(spec.test_images, spec.recipe.evaluation_batch_size)
    pixels = architecture.image_size**2
    return Workload(
        architecture=architecture,
        gradient_blocks=ALL,
        batch_size=batch,
        evaluation_batch_size=batch,
        images_evaluated=2 * spec.test_images,
        attack_steps=spec.test_images * spec.steps,
        result_bytes=RESULT_BYTES + spec.test_images * 3 * pixels,
    )


def row_numbers(first: ResultRow, numbers: Sequence[Any]) -> Sequence[Any]:
    """Accept any image indices, if their number is the requested one."""
    return numbers if len(numbers) == first["test_images"] else []


def contradictions(rows: Sequence[ResultRow], spec: VisualizeSpec | None) -> Iterator[Contradiction]:
    """Check that images have the number of bytes that follows from their size."""
    for row in rows:
        expected = 3 * row["image_size"] ** 2
        if len(row["image"]) != expected:
            message = f"expected an image of {row['image_size']} pixels per side to have {expected:,} bytes"
            yield Contradiction("image", f"{message}; got {len(row['image']):,}")
            return


KIND = Kind(
    spec=VisualizeSpec,
    stage=Stage.DIAGNOSTICS,
    rows=ROWS,
    workload=workload,
    problems=problems,
    row_numbers=row_numbers,
    contradictions=contradictions,
    trial="jobs.kinds.visualize.trial:Visualization",
    section=VisualizeSection,
    section_description="networks whose features are visualized; without this section, none",
    section_problems=section_problems,
    expand=expand,
    report_section="analysis.figures.visualize:SECTION",
)
