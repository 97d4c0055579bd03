"""The steps that a plan times on this machine, and whether it times them unasked. No torch."""

from collections.abc import Iterable
from typing import NamedTuple

from jobs.catalog.architecture_card import Architecture
from jobs.catalog.catalog import Catalog
from jobs.catalog.costs import flops_evaluated_image, flops_trained_image
from jobs.kind import workload
from jobs.specs.optimizers import Execution
from jobs.specs.trial import TrialSpec

STEPS = 3
"""How often each step is timed."""
MOST_ON_PROCESSOR = 16
"""Maximum batch size without a GPU, where a full batch would take minutes."""

QUICK_FLOPS = 1e11
"""Operations that a plan spends unasked: seconds of one core."""
_LEAST_FLOPS = 1e9
"""What one kind of step counts at least: creating its network takes as long."""
_OWN_SOFTWARE = ("torchvision:", "deltasweep:")
"""Builders that are timed unasked. Others are code that the user names, or need packages that may be absent."""


class Timed(NamedTuple):
    """What the duration of a step depends on."""

    architecture: str
    gradient_blocks: int
    recipe: Execution


def timed_as(spec: TrialSpec, catalog: Catalog) -> Timed:
    """Return the kind of step that a trial consists of."""
    work = workload(spec, catalog)
    return Timed(work.architecture.name, work.gradient_blocks, spec.recipe)


def are_quick(specs: Iterable[TrialSpec], catalog: Catalog) -> bool:
    """Whether timing every kind of step of the trials takes seconds on a processor and runs no code of the user."""
    works = {timed_as(spec, catalog): workload(spec, catalog) for spec in specs}
    if not all(work.architecture.builder.startswith(_OWN_SOFTWARE) for work in works.values()):
        return False
    operations = (
        max(_LEAST_FLOPS, _flops(work.architecture, work.gradient_blocks, work.batch_size)) for work in works.values()
    )
    return sum(operations) <= QUICK_FLOPS


def _flops(architecture: Architecture, blocks: int, batch: int) -> float:
    image = flops_trained_image(architecture, blocks).total + flops_evaluated_image(architecture)
    return STEPS * min(batch, MOST_ON_PROCESSOR) * image
