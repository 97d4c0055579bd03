"""Groups of a study's trials that share an actor. No torch."""

from collections.abc import Iterable
from typing import Literal, TypeAlias

from jobs.kind import kind_of
from jobs.specs.trial import TrialSpec

Bundling: TypeAlias = Literal["none", "blocks"]
"""A study's ``bundle``."""


def bundle_of(spec: TrialSpec, bundling: Bundling) -> TrialSpec:
    """Return the key of a trial's bundle, which is equal for trials that share an actor."""
    sharing = kind_of(spec).sharing
    return sharing.key(spec) if bundling == "blocks" and sharing is not None else spec


def bundled(specs: Iterable[TrialSpec], bundling: Bundling) -> list[list[TrialSpec]]:
    """Group trials by bundle."""
    bundles: dict[TrialSpec, list[TrialSpec]] = {}
    for spec in specs:
        bundles.setdefault(bundle_of(spec, bundling), []).append(spec)
    return list(bundles.values())
