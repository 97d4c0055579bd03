"""Threat models: the set of perturbed images, its radius, and the search inside it (paper, Sections 4 and 7, A.2)."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import Field, StrictFloat, StrictInt, model_validator

from jobs.specs.base import Spec
from jobs.specs.growth import later


class Constraint(StrEnum):
    """The set in which a source model's training images were perturbed (paper, Sections 4 and 7)."""

    NONE = "none"
    L2 = "l2"
    LINF = "linf"
    GAUSSIAN = "gaussian"
    FOURIER = "fourier"
    """An L2 ball restricted to some frequencies (A.12)."""


class ThreatModel(Spec):
    """How images are perturbed: constraint, radius, and search parameters."""

    constraint: Constraint
    epsilon: StrictFloat = Field(ge=0, description="radius for images in [0, 1]; linf 4/255 is 0.01568...")
    steps: StrictInt = Field(default=0, ge=0, description="k of PGD(k), equation (4)")
    step_scale: StrictFloat = Field(default=2.5, gt=1.5, lt=4, description="c in alpha = c * epsilon / k (A.2)")
    start: Literal["zero", "random"] = Field(
        default="zero", description="random: a random point in the cube (linf) or on the sphere (l2, fourier)"
    )
    band: tuple[StrictFloat, StrictFloat] | None = later(
        None,
        since="0.1.0",
        description="only for fourier: (a, b). Perturbations have the frequencies (u, v), in cycles per image of S x S "
        "pixels, with a S/2 < max(|u|, |v|) <= b S/2; bands that begin at 0 include the mean",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        searches = self.constraint in (Constraint.L2, Constraint.LINF, Constraint.FOURIER)
        if searches != (self.steps > 0):
            raise ValueError(
                f"expected steps of at least 1 for l2, linf and fourier, and 0 for none and gaussian; "
                f"got constraint {self.constraint} and steps {self.steps}. Fix: change steps"
            )
        if (self.constraint is Constraint.NONE) != (self.epsilon == 0):
            raise ValueError(
                f"expected epsilon 0 for the constraint none, and above 0 for every other constraint; "
                f"got constraint {self.constraint} and epsilon {self.epsilon}. Fix: change epsilon"
            )
        if self.start == "random" and not searches:
            raise ValueError(
                f"expected start random only with l2, linf or fourier; got constraint {self.constraint}. "
                "Fix: remove start"
            )
        require_band(self.constraint, self.band)
        return self

    @property
    def ball(self) -> str:
        """The constraint as named in results, including its band."""
        return self.constraint.value if self.band is None else f"fourier:{self.band[0]:g}-{self.band[1]:g}"

    @property
    def choices(self) -> dict[str, Any]:
        """The values of the threat model's columns in a result row."""
        return {**self.model_dump(mode="json", exclude={"band"}), "constraint": self.ball}

    @property
    def step_size(self) -> float:
        """alpha of A.2, in the units of epsilon. Equation (5) prints epsilon where alpha is meant."""
        return self.step_scale * self.epsilon / self.steps


def threat_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Reverse ``ThreatModel.choices``: return the fields of a threat model, given its columns.

    Raises:
        ValueError: if the band is invalid.
    """
    constraint, _, band = str(row["constraint"]).partition(":")
    fields = {**{name: row[name] for name in ("epsilon", "steps", "step_scale", "start")}, "constraint": constraint}
    if constraint == Constraint.FOURIER:
        low, _, high = band.partition("-")
        fields["band"] = (float(low), float(high))
    return fields


def require_band(constraint: str, band: tuple[float, float] | None) -> None:
    """Require a valid band for fourier, and no band for the other constraints.

    Raises:
        ValueError: stating the rule.
    """
    if (constraint == Constraint.FOURIER) != (band is not None):
        raise ValueError(f"expected a band for fourier only; got constraint {constraint} and band {band}")
    if band is not None and not 0 <= band[0] < band[1] <= 1:
        raise ValueError(f"expected a band (a, b) with 0 <= a < b <= 1; got {list(band)}")
