"""The share of a machine that a trial's actor reserves. No torch."""

from jobs.catalog.catalog import Catalog
from jobs.kind import workload
from jobs.specs.section import Resources
from jobs.specs.trial import TrialSpec
from jobs.study.model import Study


def resources_of(study: Study, spec: TrialSpec, catalog: Catalog) -> Resources:
    """Return the resources of an actor: the section's, times the number of replicas that share a trial's batches."""
    section = study.sections.get(spec.kind)
    if section is None:
        return study.resources
    resources, replicas = section.resources, workload(spec, catalog).replicas
    return resources.model_copy(update={"gpu": resources.gpu * replicas, "cpu": resources.cpu * replicas})
