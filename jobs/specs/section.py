"""Base of the sections of a study file, for every kind."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StrictFloat

from jobs.specs.growth import Growing, later
from jobs.specs.recipes import Recipe

AUTO = "auto"
OnOtherDevice = Literal["continue", "restart"]


class Section(Growing):
    """Base of a study file's sections; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Resources(Section):
    """Share of a machine that a trial's actor reserves. Placement: not part of any identity."""

    gpu: Literal["auto"] | Annotated[StrictFloat, Field(ge=0)] = Field(
        default=0.25,
        description="GPUs, or auto: the smallest share 1/n of a card with the memory that `deltasweep plan` prints, "
        "given the smallest card of the cluster; in a cluster without GPUs only cpu counts",
    )
    cpu: StrictFloat = Field(default=1, gt=0, description="CPU cores")
    on_other_device: OnOtherDevice = later(
        "continue",
        since="0.2.0",
        description="what a trial does with a checkpoint written on another kind of device or another torch: "
        "continue, and report it in its result; or restart from the beginning, so that its numbers are those of one "
        "kind of device. The study's value applies to all its trials, a section's value to that section's trials",
    )


class KindSection(Section):
    """Base of the kinds' sections: resources of their trials, and how often they are checkpointed."""

    resources: Resources = Field(default=Resources(), description="the share of a machine that each actor takes")
    checkpoint_batches: int = Field(description="batches between two checkpoints")

    def require_recipes(self, recipes: tuple[Recipe, ...]) -> None:
        """Refuse recipes of the study that the section does not support.

        Raises:
            ValueError: stating the rule.
        """


def seeds(count: int) -> list[int]:
    """Return the first ``count`` seeds of formula (6) of the paper (A.4)."""
    return [20_000_000 + 100_000 * i for i in range(count)]
