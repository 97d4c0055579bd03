"""Base specs of kinds that examine a network without training it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, StrictInt

from jobs.catalog.catalog import Catalog
from jobs.kinds.finetune.spec import FinetuneSpec, images_used
from jobs.specs.base import MOST, NAME_PATTERN
from jobs.specs.optimizers import Execution
from jobs.specs.section import KindSection, Section, seeds
from jobs.specs.trial import TrialSpec, recipe_digest


class DiagnosticSpec(TrialSpec):
    """Base of kinds that examine a network without training it: a source, or the network of a fine-tuning trial."""

    network: FinetuneSpec | Annotated[str, Field(pattern=NAME_PATTERN)] = Field(
        description="a source's name, or the whole fine-tuning trial, so that the id depends on the examined network"
    )
    dataset: str = Field(pattern=NAME_PATTERN, description="dataset whose test images the network is shown")

    @property
    def source(self) -> str:
        """The examined source, or the source of the fine-tuned network."""
        return self.network if isinstance(self.network, str) else self.network.source

    @property
    def subject(self) -> tuple[str, str]:
        return "source", self.source

    @property
    def source_read(self) -> str | None:
        return self.network if isinstance(self.network, str) else None

    @property
    def trial_read(self) -> TrialSpec | None:
        return None if isinstance(self.network, str) else self.network

    @property
    def finetuned_dataset(self) -> str | None:
        """Target dataset of the fine-tuned network, for kinds that show it another dataset's images."""
        return None if isinstance(self.network, str) else self.network.dataset

    @property
    def prefix(self) -> str:
        tuned = self.network
        of = "" if isinstance(tuned, str) else f"-k{tuned.blocks}-n{tuned.images}-s{tuned.seed}"
        return f"{self.kind}-{self.dataset}-{self.source}{of}"

    def identity_by(self, numerics: Mapping[str, int]) -> dict[str, Any]:
        found = super().identity_by(numerics)
        if isinstance(self.network, FinetuneSpec):
            found["spec"]["network"] = self.network.identity_by(numerics)
        return found

    def rests_on(self) -> tuple[type[TrialSpec], ...]:
        return (type(self),) if isinstance(self.network, str) else (type(self), type(self.network))

    @property
    def choices(self) -> dict[str, Any]:
        tuned = self.network if isinstance(self.network, FinetuneSpec) else None
        return {
            **{name: value for name, value in super().choices.items() if name != "network"},
            "source": self.source,
            "finetuned": tuned and tuned.trial_id,
            "blocks": tuned and tuned.blocks,
            "images": tuned and tuned.images,
            "finetuned_seed": tuned and tuned.seed,
            "finetuned_epochs": tuned and tuned.epochs,
            "finetuned_recipe": tuned and recipe_digest(tuned.recipe),
            "finetuned_numerics": tuned and tuned.numerics_version,
        }


class Finetuned(Section):
    """The study's fine-tuning trials to examine, from every source, dataset and depth of its grid."""

    images: tuple[StrictInt, ...] = Field(
        min_length=1, max_length=100, description="training subset sizes from the schedule"
    )
    seeds: StrictInt = Field(ge=1, le=10_000, description="number of seeds of each size, from the first on")


class DiagnosticSection(KindSection):
    """Base of the sections of kinds that examine networks without training them."""

    finetuned: Finetuned | None = Field(
        default=None, description="fine-tuning trials to examine, on their target; default: none"
    )
    recipe: Execution = Field(default=Execution(), description="choices of arithmetic")
    checkpoint_batches: StrictInt = Field(default=50, ge=1, le=MOST, description="batches between checkpoints")


def tuned_networks(
    section: DiagnosticSection, tuned: Sequence[FinetuneSpec], catalog: Catalog
) -> Iterator[FinetuneSpec]:
    """Yield the fine-tuning trials that a section examines."""
    if section.finetuned is not None:
        sizes, chosen = {*section.finetuned.images}, {*seeds(section.finetuned.seeds)}
        for spec in tuned:
            if spec.seed in chosen and not sizes.isdisjoint((spec.images, images_used(spec, catalog))):
                yield spec
