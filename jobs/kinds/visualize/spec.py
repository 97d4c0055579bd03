"""Spec and section of feature visualization: which feature of which network, from which images (Figure 1b, A.1)."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field, StrictFloat, StrictInt

from jobs.catalog.card import Radius
from jobs.catalog.catalog import Catalog
from jobs.kinds.diagnostic.spec import DiagnosticSection, DiagnosticSpec, tuned_networks
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.specs.base import MOST

MOST_PICTURES = 64
"""Maximum number of images in a trial's result: 150,528 bytes each at 224 pixels, at most 10 MB."""


class VisualizeSpec(DiagnosticSpec):
    """Images that maximize one feature of the penultimate layer, starting from seed images (Figure 1b, A.1).

    ``dataset`` provides the seed images; it may have any labels. The defaults are those of the robustness library's
    authors for images of 224 pixels: the radius exceeds every distance in the unit cube, so only the cube is a
    constraint.
    """

    kind: ClassVar[str] = "visualize"
    numerics_version: ClassVar[int] = 1

    unit: StrictInt = Field(ge=0, le=MOST, description="feature, from 0, of the pooled ones before the FC layer")
    test_images: StrictInt = Field(ge=1, le=MOST_PICTURES, description="number of seed images, drawn from the test set")
    epsilon: StrictFloat = Field(default=1000.0, gt=0, description="L2 radius around each seed, for images in [0, 1]")
    step_size: StrictFloat = Field(default=1.0, gt=0, description="L2 length of a gradient ascent step")
    steps: StrictInt = Field(default=200, ge=1, le=MOST)

    @property
    def prefix(self) -> str:
        return f"{super().prefix}-u{self.unit}"

    @property
    def choices(self) -> dict[str, Any]:
        return {**super().choices, "finetuned_dataset": self.finetuned_dataset}


class VisualizeSection(DiagnosticSection):
    """Feature visualization (kind ``visualize``): one trial for each network and unit."""

    source: tuple[str, ...] = Field(default=(), description="source models")
    dataset: str = Field(
        description="dataset whose test images are the starting points; best one that the network was not trained on"
    )
    units: tuple[Annotated[StrictInt, Field(ge=0, le=MOST)], ...] = Field(
        min_length=1,
        description="features of the penultimate layer, from 0; the same unit of two networks is unrelated",
    )
    seed: StrictInt = Field(default=20_000_000, ge=0, le=MOST, description="seed of the choice of seed images")
    test_images: StrictInt = Field(
        default=5, ge=1, le=MOST_PICTURES, description="number of seed images, drawn from the test set"
    )
    epsilon: Annotated[Radius, Field(gt=0)] = Field(default=1000.0, description="L2 radius around each seed image")
    step_size: Annotated[Radius, Field(gt=0)] = Field(default=1.0, description="L2 length of a step")
    steps: StrictInt = Field(default=200, ge=1, le=MOST, description="gradient steps from each seed image")


def expand(section: VisualizeSection, tuned: Sequence[FinetuneSpec], catalog: Catalog) -> Iterator[VisualizeSpec]:
    for network in (*section.source, *tuned_networks(section, tuned, catalog)):
        for unit in section.units:
            yield VisualizeSpec(
                network=network,
                dataset=section.dataset,
                unit=unit,
                test_images=section.test_images,
                epsilon=section.epsilon,
                step_size=section.step_size,
                steps=section.steps,
                seed=section.seed,
                recipe=section.recipe,
            )
