"""Spec and section of pretraining: a source model trained from random initialization (A.2, A.10)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field, StrictInt

from jobs.catalog.catalog import Catalog
from jobs.catalog.source_card import SourceCard
from jobs.errors import Code, InvalidRequest
from jobs.kinds.training.spec import TrainingSpec
from jobs.specs.base import MOST, NAME_PATTERN
from jobs.specs.recipes import PretrainRecipe
from jobs.specs.section import KindSection, Resources
from jobs.specs.threat_model import ThreatModel, threat_of


class PretrainSpec(TrainingSpec):
    """A source model trained from random initialization, naturally or adversarially (A.2, A.10)."""

    kind: ClassVar[str] = "pretrain"
    numerics_version: ClassVar[int] = 1

    architecture: str = Field(pattern=NAME_PATTERN)
    dataset: str = Field(pattern=NAME_PATTERN)
    threat: ThreatModel
    recipe: PretrainRecipe

    @property
    def prefix(self) -> str:
        return f"{self.kind}-{self.dataset}-{self.architecture}-{self.threat.constraint}-s{self.seed}"

    @property
    def subject(self) -> tuple[str, str]:
        return "architecture", self.architecture

    @property
    def choices(self) -> dict[str, Any]:
        fields = super().choices
        del fields["threat"]
        return {**self.threat.choices, **fields}

    @classmethod
    def parts_of(cls, row: Mapping[str, Any]) -> dict[str, Any]:
        return {"threat": threat_of(row)}


class PretrainSection(KindSection):
    """Source models that the study trains first, each a trial of the kind ``pretrain``."""

    source: tuple[str, ...] = Field(min_length=1, description="sources with a pretrain entry in their card")
    resources: Resources = Field(default=Resources(gpu=1, cpu=1), description="resources of each replica")
    checkpoint_batches: StrictInt = Field(default=500, ge=1, le=MOST, description="batches between checkpoints")


def expand(section: PretrainSection, tuned: Sequence[object], catalog: Catalog) -> Iterable[PretrainSpec]:
    """Yield one trial for each source."""
    return (pretrain_spec(catalog.source(name), catalog) for name in section.source)


def source_trial(card: SourceCard, catalog: Catalog) -> PretrainSpec | None:
    """Return the spec of the trial that trains a source; None if DeltaSweep does not train it."""
    return pretrain_spec(card, catalog) if card.pretrain is not None else None


def pretrain_spec(card: SourceCard, catalog: Catalog) -> PretrainSpec:
    """Return the spec of the trial that trains a source.

    Raises:
        InvalidRequest: if DeltaSweep does not train the source.
    """
    if card.pretrain is None:
        trainable = ", ".join(name for name, other in catalog.sources.items() if other.pretrain)
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"expected a source that DeltaSweep trains; got {card.name!r}. Known: {trainable}",
            key="source",
        )
    threat = ThreatModel(
        constraint=card.constraint,
        epsilon=card.epsilon,
        steps=card.pretrain.steps,
        step_scale=card.pretrain.step_scale,
        start=card.pretrain.start,
        band=card.band,
    )
    return PretrainSpec(
        architecture=card.architecture,
        dataset=card.trained_on,
        threat=threat,
        seed=card.pretrain.seed,
        epochs=card.pretrain.epochs,
        recipe=card.pretrain.recipe,
    )
