"""The steps that a plan times on this machine, and whether it times them unasked. No torch."""

from collections.abc import Iterable
from typing import NamedTuple

from jobs.catalog.catalog import Catalog
from jobs.catalog.costs import flops_evaluated_image, flops_trained_image
from jobs.kind import Workload, workload
from jobs.specs.optimizers import Execution
from jobs.specs.trial import TrialSpec

STEPS = 3
"""How often each step is timed."""
_STEP_FLOPS = 1e10
"""Operations of a step on a processor above which its batch is cut, to no less than ``_LEAST_BATCH``: a full batch of a
large network would take minutes. Small networks take longer for an image in small batches."""
_LEAST_BATCH = 16

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
    works = {timed_as(spec, catalog): workload(spec, catalog) for spec in specs}.values()
    if not all(work.architecture.builder.startswith(_OWN_SOFTWARE) for work in works):
        return False
    operations = (max(_LEAST_FLOPS, STEPS * batch_on_processor(work) * _flops_image(work)) for work in works)
    return sum(operations) <= QUICK_FLOPS


def batch_on_processor(work: Workload) -> int:
    """Return the number of images of a step that is timed on a processor."""
    return min(work.batch_size, max(_LEAST_BATCH, int(_STEP_FLOPS / _flops_image(work))))


def _flops_image(work: Workload) -> float:
    architecture = work.architecture
    return flops_trained_image(architecture, work.gradient_blocks).total + flops_evaluated_image(architecture)
