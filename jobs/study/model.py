"""The model of a study file: a grid of trials, a schedule, a recipe, contrasts and resources."""

from collections.abc import Iterator, Mapping
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    StrictBool,
    StrictInt,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from jobs.catalog.builder_files import file_and_function
from jobs.catalog.catalog import ArchitectureCards, Cards, Catalog, DatasetCards, SourceCards
from jobs.errors import Code, InvalidRequest
from jobs.kind import KIND_NAME, kinds
from jobs.specs.base import ALL, MOST, MOST_EPOCHS, NAME_PATTERN
from jobs.specs.canonical import digest
from jobs.specs.contrast import Contrast
from jobs.specs.equivalence import Equivalence
from jobs.specs.growth import later
from jobs.specs.optimizers import DOES_NOT_FIT, on_top_of
from jobs.specs.recipes import Recipe, named_recipe, varied
from jobs.specs.section import KindSection, Resources, Section
from jobs.system import safe_yaml

MOST_RECIPES = 10_000
"""The limit for combinations of choices, each of which is validated whenever a study is loaded."""
MOST_TRIALS = 1_000_000
"""The limit for trials of a study. `plan` of 993,600, the study `paper` with 69 times its seeds, took at most 2.0 GB of
memory and 290 s of an Intel Xeon (family 6, model 207), 54 s of them to expand it, measured on 1 December 2026.
"""
MOST_CONTRASTS = 1_000
MOST_EQUIVALENCES = 100
"""Limits for what a study declares, which is compared with all trials or recipes."""


class Grid(Section):
    """Every combination of these is fine-tuned."""

    source: tuple[str, ...] = Field(min_length=1, description="source models, by name (`deltasweep models list`)")
    dataset: tuple[str, ...] = Field(min_length=1, description="target datasets, by name (`deltasweep data list`)")
    blocks: tuple[Annotated[StrictInt, Field(ge=ALL)], ...] = Field(
        min_length=1,
        description="how many of the last blocks are fine-tuned; 0: only the last layer; -1: the whole network",
    )
    recipe: Annotated[dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]], BeforeValidator(varied)] = Field(
        default={}, description="recipe choices that vary, each a list; other choices are those of the study's recipe"
    )


class ScheduleRow(Section):
    """How trials of some subset sizes are run; one row of the paper's Table 4."""

    images: tuple[StrictInt, ...] = Field(min_length=1, description="sizes of the training subset; -1: the whole set")
    epochs: StrictInt = Field(ge=1, le=MOST_EPOCHS, description="passes over the training subset")
    seeds: StrictInt = Field(ge=1, le=10_000, description="k of formula (6): seeds 20000000 + 100000 i for i below k")
    evaluate_every: StrictInt = Field(ge=1, le=MOST, description="f: after epoch 1, 1 + f, 1 + 2f, ... and the last")


class StudyFile(Section):
    """A study file. The ids of its trials depend only on sources, datasets, grid, schedule, recipe and the sections of
    kinds; the other keys change no id.
    """

    name: str = Field(pattern=NAME_PATTERN, max_length=100, description="lower-case letters, digits, `.`, `_` and `-`")
    description: str = Field(default="", description="free text for readers")
    grid: Grid | None = Field(default=None, description="what is fine-tuned; without it nothing is")
    schedule: tuple[ScheduleRow, ...] = Field(default=(), description="subset sizes with their epochs and seeds")
    recipe: Annotated[Recipe, BeforeValidator(named_recipe)] = Field(
        default=Recipe(), description="a named recipe, or choices other than those of `base`, by default Tables 3 and 4"
    )
    contrasts: tuple[Contrast, ...] = Field(
        default=(),
        max_length=MOST_CONTRASTS,
        description="comparisons declared beforehand; their cells are the families for Holm's correction",
    )
    equivalences: tuple[Equivalence, ...] = later(
        (),
        since="0.3.0",
        max_length=MOST_EQUIVALENCES,
        description="changes of the recipe that are declared beforehand not to move deltas by more than a margin",
    )
    sources: SourceCards = Field(default={}, description="own source models, with the keys of the catalogue")
    datasets: DatasetCards = Field(default={}, description="own datasets, with the keys of the catalogue")
    architectures: ArchitectureCards = later(
        {},
        since="0.3.0",
        description="own architectures: cards that `deltasweep models describe` writes, or the paths of their files, "
        "relative to the folder of the study file",
    )
    resources: Resources = Field(default=Resources(), description="the share of a machine that each actor takes")
    bundle: Literal["none", "blocks"] = Field(
        default="none",
        description="blocks: one actor trains all trials that differ only in their blocks; none: each its own",
    )
    keep_weights: StrictBool = Field(default=False, description="keep each trial's trained weights in the results root")
    checkpoint_every: StrictInt = Field(default=10, ge=1, le=MOST, description="epochs between two checkpoints")
    _builders: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _within_limits(self) -> Self:
        _refuse(self.beyond_limits())
        return self

    @model_validator(mode="after")
    def _choices_fit(self) -> Self:
        _refuse(self.misfits())
        return self

    @model_validator(mode="after")
    def _sections_go_with_recipes(self) -> Self:
        recipes = self.recipes if self.sections else ()
        for section in self.sections.values():
            section.require_recipes(recipes)
        return self

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The recipes of fine-tuning: every combination of the choices that the grid varies, on top of `recipe`.

        Choices of `recipe` that have no effect in a combination are left out of it.
        """
        return tuple(recipe for _, recipe in self._combinations() if isinstance(recipe, Recipe))

    def beyond_limits(self) -> dict[tuple[str | int, ...], str]:
        """Return the limit that the study exceeds, by its location: for combinations of choices, else for trials.

        Nothing is combined for this, so it is known of any study.
        """
        if (grid := self.grid) is None:
            return {}
        if (recipes := prod(map(len, grid.recipe.values()))) > MOST_RECIPES:
            factors = " x ".join(f"{len(values):,}" for values in grid.recipe.values())
            message = (
                f"expected at most {MOST_RECIPES:,} combinations of choices; got {factors} = {recipes:,}. Fix: vary "
                "fewer choices, or divide them among several studies"
            )
            return {("grid", "recipe"): message}
        cells = prod(map(len, (grid.source, grid.dataset, grid.blocks))) * recipes
        trials = cells * sum(len(row.images) * row.seeds for row in self.schedule)
        if trials > MOST_TRIALS:
            message = (
                f"expected at most {MOST_TRIALS:,} trials of a study; got {trials:,}: every combination of the grid, "
                f"{cells:,}, for every number of images and seed. Fix: divide it into several studies"
            )
            return {("schedule",): message}
        return {}

    def misfits(self) -> dict[tuple[str | int, ...], str]:
        """Return the rules that combinations of choices break, by the location of the choice."""
        found: dict[tuple[str | int, ...], str] = {}
        for places, mistaken in self._combinations():
            for item in mistaken.errors() if isinstance(mistaken, ValidationError) else ():
                key = str(item["loc"][0])
                location = ("grid", "recipe", key, places[key]) if key in places else ("recipe", key)
                found.setdefault(location, item["msg"])
        return found

    def _combinations(self) -> Iterator[tuple[dict[str, int], Recipe | ValidationError]]:
        """Yield the places of varied choices in their lists, and the recipe or its mistakes."""
        varying = self.grid.recipe if self.grid is not None else {}
        base = self.recipe.model_dump()
        for numbers in product(*(range(len(values)) for values in varying.values())):
            places = dict(zip(varying, numbers, strict=True))
            choices = {key: varying[key][place] for key, place in places.items()}
            try:
                yield places, Recipe.model_validate(on_top_of(base, choices))
            except ValidationError as error:
                yield places, error

    @property
    def catalog(self) -> Catalog:
        """The packaged cards and the study's own cards, with the builder files that the user has named."""
        own = Cards.model_construct(sources=self.sources, datasets=self.datasets, architectures=self.architectures)
        return Catalog(own, self._builders)

    def with_builders(self, builders: Mapping[str, str]) -> Self:
        """Return the study with the texts of builder files, by file name; they are not part of the study itself.

        Raises:
            InvalidRequest: if no architecture of the study uses one of them.
        """
        builders_used = {named[0] for card in self.architectures.values() if (named := file_and_function(card.builder))}
        if unused := sorted(builders.keys() - builders_used):
            raise InvalidRequest(
                Code.UNKNOWN_NAME,
                f"expected files that the study's own architectures name as their builder "
                f"({', '.join(sorted(builders_used)) or 'none'}); got {', '.join(unused)}. Fix: correct --builder, or "
                "the builder in the architecture's card",
                file=unused[0],
                key="--builder",
            )
        copy = self.model_copy()
        copy._builders = builders
        return copy

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that identify this version of the study."""
        return digest(self.model_dump(mode="json"))[:16]

    @property
    def sections(self) -> dict[str, KindSection]:
        """The study's sections of kinds, by kind."""
        present = {name: getattr(self, name) for name, kind in kinds().items() if kind.section is not None}
        return {name: section for name, section in present.items() if section is not None}

    def resolved(self) -> str:
        """Return the study as YAML, including all defaults."""
        data: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        return safe_yaml.dump(data)


def _refuse(mistakes: Mapping[tuple[str | int, ...], str]) -> None:
    """Raise an error with all mistakes, which are messages by location; nothing if there are none."""
    if mistakes:
        raise ValidationError.from_exception_data(
            "study",
            [
                InitErrorDetails(type=PydanticCustomError(DOES_NOT_FIT, message), loc=location, input=None)
                for location, message in mistakes.items()
            ],
        )


def unknown_sections(values: Mapping[str, Any]) -> list[str]:
    """Return the keys of a study that may be sections of kinds that are not registered here."""
    known = StudyFile.model_fields.keys() | kinds().keys()
    mappings = [str(key) for key, value in values.items() if isinstance(value, Mapping)]
    return [key for key in mappings if key not in known and KIND_NAME.fullmatch(key)]


def _sections() -> dict[str, Any]:
    """Return the fields of a study for all registered kinds that have a section.

    Raises:
        InvalidRequest: if the name of a kind is already used in a study.
    """
    fields = {}
    for name, kind in kinds().items():
        if kind.section is not None:
            if hasattr(StudyFile, name) or name in StudyFile.model_fields:
                raise InvalidRequest(
                    Code.UNUSABLE_PACKAGE,
                    f"expected a kind of trial whose name is not used in a study already; got {name!r}, defined in "
                    f"{kind.trial.partition(':')[0]}. Fix: uninstall the package that adds it",
                    key=name,
                )
            about = Field(default=None, description=kind.section_description)
            if kind.section_since is not None:
                about = later(None, since=kind.section_since, description=kind.section_description)
            fields[name] = (kind.section | None, about)
    return fields


if TYPE_CHECKING:

    class Study(StudyFile):
        """A study file, with a section for each registered kind that has one."""

else:
    Study = create_model("Study", __base__=StudyFile, __module__=__name__, __doc__=StudyFile.__doc__, **_sections())
