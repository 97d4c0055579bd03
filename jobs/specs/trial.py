"""Trial specs: frozen models, one class per kind, and the ids derived from them.

A spec contains every choice that changes numbers and nothing else. Placement, study names and file paths are not part
of a spec, so they cannot change an id (docs/explanation/architecture.md).
"""

from collections.abc import Mapping
from functools import lru_cache
from itertools import product
from typing import Any, ClassVar, TypeAlias

from pydantic import Field, StrictInt
from pydantic_core import to_jsonable_python

from jobs.specs.base import MOST, NAME_PATTERN, Spec
from jobs.specs.canonical import digest
from jobs.specs.growth import is_later
from jobs.specs.optimizers import Execution

Numerics: TypeAlias = Mapping[str, int]
"""Numerics by kind."""


class TrialSpec(Spec):
    """Base of all kinds' specs. ``numerics_version`` rises when a golden number of the kind changes on purpose."""

    kind: ClassVar[str]
    numerics_version: ClassVar[int]
    first_numerics_version: ClassVar[int] = 1
    """The oldest numerics that a release wrote."""

    seed: StrictInt = Field(ge=0, le=MOST)
    dataset: str = Field(pattern=NAME_PATTERN)
    recipe: Execution

    @property
    def prefix(self) -> str:
        """The readable part of the trial id."""
        raise NotImplementedError

    @property
    def subject(self) -> tuple[str, str]:
        """What the trial is about besides its dataset: the field that names it, and its value."""
        raise NotImplementedError

    @property
    def source_read(self) -> str | None:
        """Source whose weights the trial reads. None: no source, or the weights of another trial."""
        return None

    @property
    def trial_read(self) -> "TrialSpec | None":
        """Trial whose trained network this trial examines, or None."""
        return None

    @property
    def trial_id(self) -> str:
        """Readable prefix and the first 16 hexadecimal digits of the identity's sha256."""
        return _trial_id(self, tuple([spec.numerics_version for spec in self.rests_on()]))

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the trial's numbers, as plain values."""
        return self.identity_by({})

    def identity_by(self, numerics: Mapping[str, int]) -> dict[str, Any]:
        """Return the identity under the given numerics by kind; the current numerics apply to all other kinds."""
        own = numerics.get(self.kind, self.numerics_version)
        return {"kind": self.kind, "numerics": own, "spec": self.model_dump(mode="json")}

    def rests_on(self) -> "tuple[type[TrialSpec], ...]":
        """Return the spec classes of the kinds whose numerics are part of the identity."""
        return (type(self),)

    @property
    def older_ids(self) -> Mapping[str, Numerics]:
        """Ids of this trial under older numerics of its kind, or of the kind of the network that it examines.

        Maps each id to those older numerics that differ from the current ones.
        """
        return _older_ids(self, tuple([spec.numerics_version for spec in self.rests_on()]))

    @classmethod
    def numerics_versions(cls) -> range:
        """Return all numerics that the kind has had; the current one is last."""
        return range(cls.first_numerics_version, cls.numerics_version + 1)

    @property
    def choices(self) -> dict[str, Any]:
        """The spec's own columns of a result row: every field except the recipe, which every kind has.

        Later fields are included even at their default, because every row has every column.
        """
        later = {name: getattr(self, name) for name, field in type(self).model_fields.items() if is_later(field)}
        return {**to_jsonable_python(later), **self.model_dump(mode="json", exclude={"recipe"})}

    @classmethod
    def parts_of(cls, row: Mapping[str, Any]) -> dict[str, Any]:
        """Reconstruct the spec fields that have no column of their own from the columns written by ``choices``.

        Raises:
            ValueError: if the columns have no valid counterpart.
        """
        return {}


@lru_cache(maxsize=65_536)
def _trial_id(spec: TrialSpec, numerics: tuple[int, ...]) -> str:
    """Compute the id once per process; ``numerics`` is part of the cache key, so that a changed one takes effect."""
    return f"{spec.prefix}-{digest(spec.identity)[:16]}"


@lru_cache(maxsize=65_536)
def _older_ids(spec: TrialSpec, today: tuple[int, ...]) -> Mapping[str, Numerics]:
    """Compute older ids once per process, cached like ``_trial_id``."""
    kinds = spec.rests_on()
    older = {}
    for numbers in product(*(kind.numerics_versions() for kind in kinds)):
        risen = {kind.kind: number for kind, number, now in zip(kinds, numbers, today, strict=True) if number < now}
        if risen:
            older[f"{spec.prefix}-{digest(spec.identity_by(risen))[:16]}"] = risen
    return older


def recipe_digest(recipe: Execution) -> str:
    """Return a short digest of a recipe, 12 hexadecimal digits; equal recipes have equal digests."""
    return digest(recipe.model_dump(mode="json"))[:12]
