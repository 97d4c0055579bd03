"""Spec and section of shape bias: networks, and images with conflicting cues (Section 5; Geirhos et al. 2019)."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from pydantic import Field

from jobs.catalog.catalog import Catalog
from jobs.kinds.diagnostic.spec import DiagnosticSection, DiagnosticSpec, tuned_networks
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.specs.section import seeds


class ShapeBiasSpec(DiagnosticSpec):
    """A network's decisions on images whose shape and texture have different labels (Section 5; Geirhos et al. 2019).

    It draws no random numbers: its seed is that of the fine-tuning trial, or the first seed.
    """

    kind: ClassVar[str] = "shape_bias"
    numerics_version: ClassVar[int] = 1

    @property
    def choices(self) -> dict[str, Any]:
        return {**super().choices, "finetuned_dataset": self.finetuned_dataset}


class ShapeBiasSection(DiagnosticSection):
    """Decisions of networks on images with conflicting cues (kind ``shape_bias``)."""

    source: tuple[str, ...] = Field(default=(), description="source models")
    dataset: tuple[str, ...] = Field(min_length=1, description="datasets with conflicting cues")


def expand(section: ShapeBiasSection, tuned: Sequence[FinetuneSpec], catalog: Catalog) -> Iterator[ShapeBiasSpec]:
    shown: list[str | FinetuneSpec] = [*section.source, *tuned_networks(section, tuned, catalog)]
    for network in shown:
        seed = network.seed if isinstance(network, FinetuneSpec) else seeds(1)[0]
        for dataset in section.dataset:
            yield ShapeBiasSpec(network=network, dataset=dataset, seed=seed, recipe=section.recipe)
