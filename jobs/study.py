"""A study: a grid of trials, a schedule, a recipe, contrasts and resources. What a study file may say."""

from itertools import product
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    model_validator,
)

from jobs import yaml_values
from jobs.canonical import digest
from jobs.growth import Growing, later
from jobs.recipes import named_recipe, varied
from jobs.registry import Cards, DatasetCards, Radius, SourceCards
from jobs.specs import (
    ALL,
    MOST,
    MOST_EPOCHS,
    MOST_PICTURES,
    NAME_PATTERN,
    Contrast,
    Decomposition,
    Execution,
    Measure,
    Recipe,
    require_band,
)

OnOtherDevice = Literal["continue", "restart"]


class Section(Growing):
    """Base of a study file's sections: unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Grid(Section):
    """Every combination of these is fine-tuned."""

    source: tuple[str, ...] = Field(min_length=1, description="source models, by name (`deltasweep models list`)")
    dataset: tuple[str, ...] = Field(min_length=1, description="target datasets, by name (`deltasweep data list`)")
    blocks: tuple[StrictInt, ...] = Field(min_length=1, description="fine-tuned residual blocks; -1: the whole network")
    recipe: Annotated[dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]], BeforeValidator(varied)] = Field(
        default={}, description="choices of the recipe that vary, each a list; the others are those of the study's"
    )


class ScheduleRow(Section):
    """How trials of some sizes are run; one row of the paper's Table 4."""

    images: tuple[StrictInt, ...] = Field(min_length=1, description="sizes of the training subset; -1: the whole set")
    epochs: StrictInt = Field(ge=1, le=MOST_EPOCHS)
    seeds: StrictInt = Field(ge=1, le=10_000, description="k of formula (6): seeds 20000000 + 100000 i for i below k")
    evaluate_every: StrictInt = Field(ge=1, le=MOST, description="f: after epoch 1, 1 + f, 1 + 2f, ... and the last")


class Resources(Section):
    """The share of a machine that a trial's actor takes. Placement: no part of any identity."""

    gpu: StrictFloat = Field(default=0.25, ge=0, description="GPUs; without any in the cluster only cpu counts")
    cpu: StrictFloat = Field(default=1, gt=0, description="CPU cores")
    on_other_device: OnOtherDevice = later(
        "continue",
        since="0.2.0",
        description="what a trial does with a checkpoint that was made on another kind of device, or by another torch: "
        "continue, and say so in its result; or restart from the beginning, so that its numbers are those of one kind. "
        "The study's own holds for all its trials, a section's for that section's",
    )


class Pretrain(Section):
    """Source models that the study makes first, each a trial of the kind ``pretrain``."""

    source: tuple[str, ...] = Field(min_length=1, description="sources whose card says how they are trained")
    resources: Resources = Field(default=Resources(gpu=1, cpu=1), description="of each replica")
    checkpoint_batches: StrictInt = Field(default=500, ge=1, le=MOST, description="batches between two checkpoints")


class Finetuned(Section):
    """Which of the study's fine-tuned trials are examined: of every source, dataset and depth of its grid."""

    images: tuple[StrictInt, ...] = Field(min_length=1, description="sizes of the training subset, of the schedule")
    seeds: StrictInt = Field(ge=1, le=10_000, description="the first so many of each")


class Examine(Section):
    """Base of the sections of kinds that look at networks as they are."""

    finetuned: Finetuned | None = Field(default=None, description="fine-tuned trials, on their target; none by default")
    recipe: Execution = Execution()
    resources: Resources = Resources()
    checkpoint_batches: StrictInt = Field(default=50, ge=1, le=MOST, description="batches between two checkpoints")


class Ball(Section):
    """Where an attack moves images, and how it searches there."""

    constraint: Literal["l2", "linf", "fourier"]
    epsilon: tuple[Annotated[Radius, Field(gt=0)], ...] = Field(
        min_length=1, description="radii, images in [0, 1]; each is a trial"
    )
    steps: StrictInt = Field(ge=1, description="k of PGD(k)")
    step_scale: StrictFloat = Field(default=2.5, gt=1.5, lt=4, description="c in alpha = c * epsilon / k")
    start: Literal["zero", "random"] = "zero"
    restarts: StrictInt = Field(default=1, ge=1, le=1000, description="attacks on each image; the worst counts")
    band: tuple[Radius, Radius] | None = Field(
        default=None, description="of fourier: from, to; shares of the frequencies"
    )

    @model_validator(mode="after")
    def _worth_it(self) -> Self:
        if self.restarts > 1 and self.start == "zero":
            raise ValueError(
                f"from zero every restart is the same: restarts need start random; there are {self.restarts}"
            )
        require_band(self.constraint, self.band)
        return self


class Attack(Examine):
    """Adversarial evaluation, trials of the kind ``attack``: each network on clean images and in every ball."""

    source: tuple[str, ...] = Field(default=(), description="source models, on test images of their own labels")
    dataset: tuple[str, ...] = Field(
        default=(), description="whose test images sources are shown; by default those that they are known on"
    )
    seed: StrictInt = Field(default=20_000_000, ge=0, le=MOST)
    balls: tuple[Ball, ...] = Field(default=(), description="none: clean images alone")
    test_images: StrictInt = Field(
        default=ALL, ge=ALL, le=MOST, description="a random part of the test set; -1: the whole"
    )


class Cutoff(Section):
    """Singular values that the pseudo-inverse counts as 0."""

    absolute: StrictFloat = later(0.0, since="0.3.0", ge=0, description="those up to this")
    relative: StrictFloat = later(0.0, since="0.3.0", ge=0, lt=1, description="those up to this share of the largest")
    decomposition: Decomposition = later(
        "eigh", since="0.3.0", description="how they are found; decides where a cut-off keeps rounding"
    )


_OF_ONE_CUT = ("cutoff_absolute", "cutoff_relative", "decomposition")
"""Keys of the section ``influence`` that say a cut-off where there is one."""


class Influence(Examine):
    """What training images do to test images, trials of the kind ``influence``: one for each network and measure, and
    of the pseudo-inverse for each cut-off.
    """

    finetuned: Finetuned
    measures: tuple[Measure, ...] = Field(default=("influence",), min_length=1)
    damping: StrictFloat | None = Field(
        default=None, gt=0, description="of influence and fisher; by default the recipe's weight_decay"
    )
    cutoff_absolute: StrictFloat = Field(
        default=0.0, ge=0, description="of the pseudo-inverse: singular values up to this count as 0"
    )
    cutoff_relative: StrictFloat = Field(
        default=1e-10, ge=0, lt=1, description="of the pseudo-inverse: those up to this share of the largest do too"
    )
    top: StrictInt = Field(default=10, ge=1, le=1000, description="training images that are kept for each test image")
    cutoffs: tuple[Cutoff, ...] = later(
        (),
        since="0.3.0",
        description="of the pseudo-inverse, in place of those above: several, each a trial of its own",
    )
    decomposition: Decomposition = later(
        "eigh", since="0.3.0", description="of the pseudo-inverse: how singular values are found"
    )

    @model_validator(mode="after")
    def _cut_once(self) -> Self:
        said = [name for name in _OF_ONE_CUT if getattr(self, name) != type(self).model_fields[name].default]
        asked = "cutoffs" if self.cutoffs else "decomposition" if "decomposition" in said else None
        if asked and "pseudo-inverse" not in self.measures:
            raise ValueError(f"{asked}: of the measure pseudo-inverse alone; measures are {', '.join(self.measures)}")
        if not self.cutoffs:
            return self
        if said:
            raise ValueError(f"cut-offs are said once: in cutoffs, or as {' and '.join(said)}; both are there")
        if len(set(self.cutoffs)) < len(self.cutoffs):
            raise ValueError("each of cutoffs is another; one is there twice")
        return self

    @property
    def cuts(self) -> tuple[Cutoff, ...]:
        """The cut-offs of the pseudo-inverse, however they are said."""
        of_one = {name.removeprefix("cutoff_"): getattr(self, name) for name in _OF_ONE_CUT}
        return self.cutoffs or (Cutoff.model_validate(of_one),)


class ShapeBias(Examine):
    """What networks decide on images of conflicting cues, trials of the kind ``shape_bias``."""

    source: tuple[str, ...] = Field(default=(), description="source models")
    dataset: tuple[str, ...] = Field(min_length=1, description="of conflicting cues")


class Visualize(Examine):
    """What raises features of networks, trials of the kind ``visualize``: one for each network and unit."""

    source: tuple[str, ...] = Field(default=(), description="source models")
    dataset: str = Field(description="whose test images are begun from; those that the network never saw are of use")
    units: tuple[Annotated[StrictInt, Field(ge=0, le=MOST)], ...] = Field(
        min_length=1, description="features of the penultimate layer, from 0; unit 3 of two networks is not one thing"
    )
    seed: StrictInt = Field(default=20_000_000, ge=0, le=MOST)
    test_images: StrictInt = Field(
        default=5, ge=1, le=MOST_PICTURES, description="seed images, drawn from the test set"
    )
    epsilon: Annotated[Radius, Field(gt=0)] = Field(default=1000.0, description="L2 radius around each seed image")
    step_size: Annotated[Radius, Field(gt=0)] = Field(default=1.0, description="L2 length of a step")
    steps: StrictInt = Field(default=200, ge=1, le=MOST)


class Study(Section):
    """A study file. Only sources, datasets, pretrain, grid, schedule, recipe and the sections that examine networks
    take part in the ids of its trials; the rest is placement.
    """

    name: str = Field(pattern=NAME_PATTERN, max_length=100)
    description: str = ""
    grid: Grid | None = Field(default=None, description="what is fine-tuned; without it nothing is")
    schedule: tuple[ScheduleRow, ...] = ()
    recipe: Annotated[Recipe, BeforeValidator(named_recipe)] = Field(
        default=Recipe(), description="a named recipe, or choices other than those of `base`, by default Tables 3 and 4"
    )
    contrasts: tuple[Contrast, ...] = ()
    pretrain: Pretrain | None = Field(default=None, description="sources that are made first; without it none is")
    attack: Attack | None = Field(default=None, description="networks that are attacked; without it none is")
    influence: Influence | None = Field(
        default=None, description="fine-tuned trials whose training images are weighed; without it none is"
    )
    shape_bias: ShapeBias | None = Field(
        default=None, description="networks that decide on images of conflicting cues; without it none does"
    )
    visualize: Visualize | None = Field(
        default=None, description="networks whose features are visualised; without it none is"
    )
    sources: SourceCards = Field(default={}, description="own source models, as the registry describes them")
    datasets: DatasetCards = Field(default={}, description="own datasets, as the registry describes them")
    resources: Resources = Resources()
    bundle: Literal["none", "blocks"] = Field(
        default="none",
        description="blocks: one actor trains all trials that differ only in their blocks; none: each its own",
    )
    keep_weights: StrictBool = Field(default=False, description="keep each trial's trained weights in the results root")
    checkpoint_every: StrictInt = Field(default=10, ge=1, le=MOST, description="epochs between two checkpoints")

    @model_validator(mode="after")
    def _damped(self) -> Self:
        section = self.influence
        if (
            section
            and section.damping is None
            and not all(recipe.weight_decay for recipe in self.recipes)
            and set(section.measures) - {"pseudo-inverse"}
        ):
            raise ValueError("influence needs a damping above 0: the weight_decay of a recipe is 0, so name one")
        return self

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """What trials are fine-tuned by: every combination of the choices that the grid varies, on top of `recipe`."""
        varying = self.grid.recipe if self.grid is not None else {}
        return tuple(
            Recipe.model_validate({**self.recipe.model_dump(), **dict(zip(varying, chosen, strict=True))})
            for chosen in product(*varying.values())
        )

    @property
    def cards(self) -> Cards:
        """What the study knows besides the registry."""
        return Cards(sources=self.sources, datasets=self.datasets)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits: which version of a study's file this is."""
        return digest(self.model_dump(mode="json"))[:16]

    @property
    def examinations(self) -> dict[str, Examine]:
        """The sections that examine networks, by kind."""
        found = {kind: getattr(self, kind) for kind in examining(type(self))}
        return {kind: section for kind, section in found.items() if section is not None}

    def resolved(self) -> str:
        """The study as YAML with every default written out."""
        data: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        return yaml_values.dump(data)


def examining(study: type[Study]) -> dict[str, type[Examine]]:
    """The sections of a study file that examine networks, by their keys, which are kinds of trials, in order."""
    models = ((key, next(iter(get_args(field.annotation)), None)) for key, field in study.model_fields.items())
    return {key: model for key, model in models if isinstance(model, type) and issubclass(model, Examine)}


def seeds(count: int) -> list[int]:
    """The first ``count`` seeds by formula (6) of the paper (A.4)."""
    return [20_000_000 + 100_000 * i for i in range(count)]
