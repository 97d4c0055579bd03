"""The kind ``darkness``: the accuracy of networks on increasingly dark images."""

from collections.abc import Iterator, Sequence
from typing import Any

from jobs.catalog.catalog import Catalog
from jobs.errors import Mistake
from jobs.kind import Contradiction, Kind, ResultRow, Stage, Workload
from jobs.kinds.diagnostic.problems import label_problems, section_problems
from jobs.kinds.rules import unknown_labels, within_test_set

from .columns import ROWS
from .spec import DarknessSection, DarknessSpec, brightness, expand


def problems(spec: DarknessSpec, catalog: Catalog) -> list[Mistake]:
    """Report a network that does not know the labels, and more test images than the dataset has."""
    return label_problems(spec, catalog, unknown_labels) or within_test_set(spec.dataset, spec.test_images, catalog)


def workload(spec: DarknessSpec, catalog: Catalog) -> Workload:
    """Return the workload: each image once per level."""
    return Workload(
        architecture=catalog.architecture_of(spec.source),
        gradient_blocks=0,
        batch_size=spec.recipe.evaluation_batch_size,
        evaluation_batch_size=spec.recipe.evaluation_batch_size,
        images_evaluated=spec.test_images * spec.levels,
    )


def row_numbers(first: ResultRow, numbers: Sequence[Any]) -> Sequence[Any]:
    """Return all levels."""
    return range(1, first["levels"] + 1)


def contradictions(rows: Sequence[ResultRow], spec: DarknessSpec | None) -> Iterator[Contradiction]:
    """Yield a contradiction for each row whose brightness does not follow from its level."""
    for row in rows:
        if row["brightness"] != (bright := brightness(row["level"], row["levels"])):
            message = f"at level {row['level']} of {row['levels']} it is {bright}; it says {row['brightness']}"
            yield Contradiction("brightness", message)


KIND = Kind(
    spec=DarknessSpec,
    stage=Stage.DIAGNOSTICS,
    rows=ROWS,
    workload=workload,
    problems=problems,
    row_numbers=row_numbers,
    contradictions=contradictions,
    trial="deltasweep_darkness.trial:Darkness",
    section=DarknessSection,
    section_description="networks that are shown dark images; without it none is",
    section_since="0.3.0",
    section_problems=section_problems,
    expand=expand,
    report_section="deltasweep_darkness.report:SECTION",
)
