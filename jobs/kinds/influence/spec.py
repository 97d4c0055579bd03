"""Spec and section of influence: by which measure, of which fine-tuning trial (Section 6, A.9)."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, StrictFloat, StrictInt, model_validator

from jobs.catalog.catalog import Catalog
from jobs.kinds.diagnostic.spec import DiagnosticSection, DiagnosticSpec, Finetuned, tuned_networks
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.specs.growth import later
from jobs.specs.recipes import Recipe
from jobs.specs.section import Section

MOST_DENSE = 32_766
"""Maximum rows of a dense matrix that is inverted: LAPACK counts the 1 + 6 n + 2 n^2 numbers of workspace for its
eigenvectors (``dsyevd``) in 32 bits. ``jobs.kinds.influence.workload`` checks whether a machine has the memory.
"""

Decomposition = Literal["eigh", "svd"]
"""How the singular values of a symmetric matrix are computed: as absolute values of its eigenvalues, or by an SVD."""

MOST_DECOMPOSED: Mapping[Decomposition, int] = MappingProxyType({"eigh": MOST_DENSE, "svd": 26_753})
"""Maximum rows per decomposition: singular vectors (``dgesdd``) need a workspace of 7 n + 3 n^2 numbers."""

MATRIX_GROUPS = 100
"""Groups of images on each side of an influence trial's matrix (Figure 7a); if there are more labels, one per label."""

Measure = Literal["influence", "pseudo-inverse", "fisher"]
"""How training and test images are compared through the last layer: influence with a damped Hessian, by conjugate
gradients; influence by the pseudo-inverse of the whole Hessian, without damping (A.9); similarity by the Fisher kernel.
"""


class InfluenceSpec(DiagnosticSpec):
    """The top training images for each test image of a fine-tuning trial (Section 6).

    It draws no random numbers: its seed is that of the fine-tuning trial.
    """

    kind: ClassVar[str] = "influence"
    numerics_version: ClassVar[int] = 1

    network: FinetuneSpec
    measure: Measure
    damping: StrictFloat = Field(ge=0, description="added to the diagonal of the inverted matrix; 0 for pseudo-inverse")
    cutoff_absolute: StrictFloat | None = Field(ge=0, description="singular values up to this one are treated as 0")
    cutoff_relative: StrictFloat | None = Field(
        ge=0, lt=1, description="singular values up to this share of the largest are treated as 0, too"
    )
    top: StrictInt = Field(ge=1, le=1000, description="number of training images kept per test image")
    decomposition: Decomposition = later(
        "eigh",
        since="0.3.0",
        description="how the pseudo-inverse computes singular values; matters where the cut-offs keep rounding errors",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        inverts = self.measure == "pseudo-inverse"
        if inverts == (self.damping > 0):
            raise ValueError(
                f"expected a damping of 0 for pseudo-inverse, and above 0 for influence and fisher; got measure "
                f"{self.measure} and damping {self.damping}"
            )
        if inverts == (self.cutoff_absolute is None or self.cutoff_relative is None):
            raise ValueError(
                f"expected both cut-offs for pseudo-inverse, and none for other measures; got measure {self.measure}"
            )
        if self.decomposition != "eigh" and not inverts:
            raise ValueError(
                f"expected a decomposition for pseudo-inverse only; got measure {self.measure} and decomposition "
                f"{self.decomposition}. Fix: remove decomposition"
            )
        if self.dataset != self.network.dataset:
            raise ValueError(
                f"expected the test images of the target dataset of the fine-tuning trial, {self.network.dataset}; "
                f"got dataset {self.dataset}"
            )
        return self

    @property
    def prefix(self) -> str:
        return f"{super().prefix}-{self.measure}"

    @property
    def choices(self) -> dict[str, Any]:
        inverts = self.measure == "pseudo-inverse"
        return {**super().choices, "decomposition": self.decomposition if inverts else None}


class Cutoff(Section):
    """Singular values that the pseudo-inverse treats as 0."""

    absolute: StrictFloat = later(0.0, since="0.3.0", ge=0, description="singular values up to this are treated as 0")
    relative: StrictFloat = later(0.0, since="0.3.0", ge=0, lt=1, description="the same, as a share of the largest one")
    decomposition: Decomposition = later(
        "eigh", since="0.3.0", description="how they are computed; matters if a cut-off keeps rounding errors"
    )


_OF_ONE_CUT = ("cutoff_absolute", "cutoff_relative", "decomposition")
"""Keys of the section ``influence`` that define a single cut-off."""


class InfluenceSection(DiagnosticSection):
    """Influence of training images on test images (kind ``influence``): one trial for each network and measure.

    For the pseudo-inverse there is one trial for each cut-off.
    """

    finetuned: Finetuned = Field(description="fine-tuning trials whose training images are compared")
    measures: tuple[Measure, ...] = Field(
        default=("influence",),
        min_length=1,
        description="influence: damped Hessian; pseudo-inverse: undamped Hessian; fisher: damped Fisher kernel",
    )
    damping: StrictFloat | None = Field(
        default=None,
        gt=0,
        description="for influence and fisher; default: the recipe's weight_decay. Required with optimizer: adamw",
    )
    cutoff_absolute: StrictFloat = Field(
        default=0.0, ge=0, description="for pseudo-inverse: singular values up to this one are treated as 0"
    )
    cutoff_relative: StrictFloat = Field(
        default=1e-10,
        ge=0,
        lt=1,
        description="for pseudo-inverse: singular values up to this share of the largest are treated as 0, too",
    )
    top: StrictInt = Field(default=10, ge=1, le=1000, description="number of training images kept per test image")
    cutoffs: tuple[Cutoff, ...] = later(
        (),
        since="0.3.0",
        description="for pseudo-inverse, instead of a single cut-off: several, each a separate trial",
    )
    decomposition: Decomposition = later(
        "eigh", since="0.3.0", description="for pseudo-inverse: how singular values are computed"
    )

    @model_validator(mode="after")
    def _cut_once(self) -> Self:
        given = [name for name in _OF_ONE_CUT if getattr(self, name) != type(self).model_fields[name].default]
        asked = "cutoffs" if self.cutoffs else "decomposition" if "decomposition" in given else None
        if asked and "pseudo-inverse" not in self.measures:
            raise ValueError(
                f"{asked}: expected only with the measure pseudo-inverse; got measures {', '.join(self.measures)}"
            )
        if not self.cutoffs:
            return self
        if given:
            raise ValueError(f"expected cut-offs either in cutoffs, or as {' and '.join(given)}; got both")
        if len(set(self.cutoffs)) < len(self.cutoffs):
            raise ValueError("expected different cutoffs; got one of them twice")
        return self

    @property
    def cuts(self) -> tuple[Cutoff, ...]:
        """The cut-offs of the pseudo-inverse, from either form of the section."""
        of_one = {name.removeprefix("cutoff_"): getattr(self, name) for name in _OF_ONE_CUT}
        return self.cutoffs or (Cutoff.model_validate(of_one),)

    def require_recipes(self, recipes: tuple[Recipe, ...]) -> None:
        if not set(self.measures) - {"pseudo-inverse"} or self.damping is not None:
            return
        if not all(recipe.weight_decay for recipe in recipes):
            raise ValueError(
                "expected a damping above 0 for influence; the weight_decay of a recipe is 0. Fix: set damping"
            )
        if not all(recipe.optimizer == "sgd" for recipe in recipes):
            raise ValueError(
                "expected a damping for influence; a recipe has optimizer: adamw, whose weight_decay is not the L2 "
                "penalty that the default stands for. Fix: set damping"
            )


def expand(section: InfluenceSection, tuned: Sequence[FinetuneSpec], catalog: Catalog) -> Iterator[InfluenceSpec]:
    for network in tuned_networks(section, tuned, catalog):
        damping = network.recipe.weight_decay if section.damping is None else section.damping
        for measure in section.measures:
            inverts = measure == "pseudo-inverse"
            for cut in section.cuts if inverts else (None,):
                yield InfluenceSpec(
                    network=network,
                    dataset=network.dataset,
                    measure=measure,
                    damping=0.0 if inverts else damping,
                    cutoff_absolute=cut.absolute if cut else None,
                    cutoff_relative=cut.relative if cut else None,
                    decomposition=cut.decomposition if cut else "eigh",
                    top=section.top,
                    seed=network.seed,
                    recipe=section.recipe,
                )
