"""Which trials of a study share an actor. No torch."""

from collections.abc import Iterable

from jobs.specs import AnySpec, FinetuneSpec, apart_from_blocks
from jobs.study import Study


def bundle_of(study: Study, spec: AnySpec) -> AnySpec:
    """A trial's bundle: equal for the trials that share an actor, by the study's ``bundle``."""
    if study.bundle == "blocks" and isinstance(spec, FinetuneSpec):
        return apart_from_blocks(spec)
    return spec


def bundled(study: Study, specs: Iterable[AnySpec]) -> list[list[AnySpec]]:
    """The trials, those that share an actor together."""
    bundles: dict[AnySpec, list[AnySpec]] = {}
    for spec in specs:
        bundles.setdefault(bundle_of(study, spec), []).append(spec)
    return list(bundles.values())
