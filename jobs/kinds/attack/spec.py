"""Spec and section of adversarial evaluation: which network, and how its test images are perturbed (Table 1b)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StrictFloat, StrictInt, field_validator, model_validator

from jobs.catalog.card import Radius
from jobs.catalog.catalog import Catalog
from jobs.kinds.diagnostic.spec import DiagnosticSection, DiagnosticSpec, tuned_networks
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.specs.base import ALL, MOST
from jobs.specs.section import Section
from jobs.specs.threat_model import Constraint, ThreatModel, require_band, threat_of


class AttackSpec(DiagnosticSpec):
    """Accuracy of a network on test images perturbed according to a threat model (Table 1b)."""

    kind: ClassVar[str] = "attack"
    numerics_version: ClassVar[int] = 1

    threat: ThreatModel = Field(description="perturbation of the test images; constraint none: clean images")
    restarts: StrictInt = Field(
        default=1, ge=1, le=1000, description="attacks per image, each with its own random draws; the worst counts"
    )
    test_images: StrictInt = Field(
        default=ALL, ge=ALL, le=MOST, description="size of the random test subset; -1: the whole test set"
    )

    @model_validator(mode="after")
    def _worth_it(self) -> Self:
        draws = self.threat.start == "random" or self.threat.constraint is Constraint.GAUSSIAN
        if self.restarts > 1 and not draws:
            raise ValueError(
                f"expected restarts above 1 only with random draws (start random, or gaussian); got "
                f"{self.restarts} with constraint {self.threat.constraint} and start {self.threat.start}"
            )
        if self.test_images == 0:
            raise ValueError("expected test_images of at least 1, or -1 for the whole test set; got 0")
        return self

    @property
    def prefix(self) -> str:
        radius = f"-{self.threat.epsilon:.4g}" if self.threat.epsilon else ""
        return f"{super().prefix}-{self.threat.constraint}{radius}"

    @property
    def choices(self) -> dict[str, Any]:
        fields = super().choices
        del fields["threat"]
        return {**self.threat.choices, **fields}

    @classmethod
    def parts_of(cls, row: Mapping[str, Any]) -> dict[str, Any]:
        return {"threat": threat_of(row)}


class Ball(Section):
    """The set in which an attack perturbs images, and how it searches in it."""

    constraint: Literal["l2", "linf", "fourier"] = Field(description="norm of the ball")
    epsilon: tuple[Annotated[Radius, Field(gt=0)], ...] = Field(
        min_length=1, description="radii for images in [0, 1]; each is a separate trial"
    )
    steps: StrictInt = Field(ge=1, description="k of PGD(k)")
    step_scale: StrictFloat = Field(default=2.5, gt=1.5, lt=4, description="c in alpha = c * epsilon / k")
    start: Literal["zero", "random"] = Field(
        default="zero", description="where the search starts: at the image, or at a random point of the ball"
    )
    restarts: StrictInt = Field(default=1, ge=1, le=1000, description="attacks per image; the worst counts")
    band: tuple[Radius, Radius] | None = Field(
        default=None, description="only for fourier: [from, to], as shares of the frequencies"
    )

    @model_validator(mode="after")
    def _worth_it(self) -> Self:
        if self.restarts > 1 and self.start == "zero":
            raise ValueError(
                f"expected start random for more than one restart, since all restarts from zero are equal; got "
                f"{self.restarts} restarts. Fix: set start to random, or restarts to 1"
            )
        require_band(self.constraint, self.band)
        return self


class AttackSection(DiagnosticSection):
    """Adversarial evaluation (kind ``attack``): each network on clean images and in every ball."""

    source: tuple[str, ...] = Field(default=(), description="source models, on test images of their own labels")
    dataset: tuple[str, ...] = Field(
        default=(),
        description="datasets on whose test images sources are evaluated; default: that of their known accuracy",
    )
    seed: StrictInt = Field(default=20_000_000, ge=0, le=MOST, description="seed of test images and random starts")
    balls: tuple[Ball, ...] = Field(default=(), description="perturbation sets; empty: only clean images")
    test_images: StrictInt = Field(
        default=ALL, ge=ALL, le=MOST, description="size of the random test subset; -1: the whole test set"
    )

    @field_validator("test_images")
    @classmethod
    def _some_images(cls, value: int) -> int:
        if value == 0:
            raise ValueError(f"expected test_images of at least 1, or {ALL} for the whole test set")
        return value


def expand(section: AttackSection, tuned: Sequence[FinetuneSpec], catalog: Catalog) -> Iterator[AttackSpec]:
    for network, dataset in _shown(section, tuned, catalog):
        card = catalog.datasets.get(dataset)
        whole = card is not None and section.test_images == card.test
        for threat, restarts in _threats(section):
            yield AttackSpec(
                network=network,
                dataset=dataset,
                threat=threat,
                restarts=restarts,
                test_images=ALL if whole else section.test_images,
                seed=section.seed,
                recipe=section.recipe,
            )


def _shown(
    section: AttackSection, tuned: Sequence[FinetuneSpec], catalog: Catalog
) -> Iterator[tuple[str | FinetuneSpec, str]]:
    """Yield the networks, each with a dataset whose test images it is shown."""
    for name in section.source:
        for dataset in section.dataset or (catalog.source(name).test_dataset,):
            yield name, dataset
    for spec in tuned_networks(section, tuned, catalog):
        yield spec, spec.dataset


def _threats(section: AttackSection) -> Iterator[tuple[ThreatModel, int]]:
    """Yield the clean images, then every ball, each with its number of restarts."""
    yield ThreatModel(constraint=Constraint.NONE, epsilon=0.0), 1
    for ball in section.balls:
        for epsilon in ball.epsilon:
            threat = ThreatModel(
                constraint=Constraint(ball.constraint),
                epsilon=epsilon,
                steps=ball.steps,
                step_scale=ball.step_scale,
                start=ball.start,
                band=ball.band,
            )
            yield threat, ball.restarts
