"""A trial of the kind ``darkness``, and its section of a study file. No torch."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from pydantic import Field, StrictInt

from jobs.catalog.catalog import Catalog
from jobs.kinds.diagnostic.spec import DiagnosticSection, DiagnosticSpec, tuned_networks
from jobs.kinds.finetune.spec import FinetuneSpec

MOST_LEVELS = 10


class DarknessSpec(DiagnosticSpec):
    """The accuracy of a network on some test images that get increasingly dark."""

    kind: ClassVar[str] = "darkness"
    numerics_version: ClassVar[int] = 1

    test_images: StrictInt = Field(ge=1, description="so many are drawn")
    levels: StrictInt = Field(ge=1, le=MOST_LEVELS)


class DarknessSection(DiagnosticSection):
    test_images: StrictInt = Field(default=200, ge=1, description="so many are drawn")
    levels: StrictInt = Field(default=4, ge=1, le=MOST_LEVELS, description="the first: images as they are")


def brightness(level: int, levels: int) -> float:
    """Return the factor for images in [0, 1] at a level, counted from 1."""
    return 1 - (level - 1) / levels


def expand(section: DarknessSection, tuned: Sequence[FinetuneSpec], catalog: Catalog) -> Iterator[DarknessSpec]:
    """Yield a trial for each network that the section names."""
    for network in tuned_networks(section, tuned, catalog):
        yield DarknessSpec(
            network=network,
            dataset=network.dataset,
            test_images=section.test_images,
            levels=section.levels,
            seed=network.seed,
            recipe=section.recipe,
        )
