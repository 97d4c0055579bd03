"""Simulated later releases: a field in a part of the recipe, and a kind of trial, that no release has yet."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar, NamedTuple, cast

import pyarrow as pa
import pytest
import torch
from pydantic import BaseModel, Field, StrictInt
from pydantic.fields import FieldInfo
from torch import Tensor

from analysis.paired import studies
from jobs.catalog.catalog import PACKAGED, Catalog
from jobs.data.batches import to_input
from jobs.execution.determinism import memory_format
from jobs.kind import Kind, Stage, Workload, kinds
from jobs.kinds.diagnostic.columns import DIAGNOSTIC_COLUMNS
from jobs.kinds.diagnostic.problems import network_problems, section_problems
from jobs.kinds.diagnostic.spec import DiagnosticSection, DiagnosticSpec, tuned_networks
from jobs.kinds.diagnostic.trial import DiagnosticTrial, drawn_images
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.specs.base import Spec
from jobs.specs.columns import Column, Role, RowSchema
from jobs.specs.growth import later
from jobs.specs.recipes import Recipe
from jobs.study.model import Study
from jobs.verification import records as verify_records
from orchestrator.study import load

RELEASE = "99.9.0"


class Mixing(Spec):
    """A part of the recipe with its own choices."""

    alpha: float = 0.0


@contextmanager
def recipe_grown() -> Iterator[None]:
    """Simulate a release that added ``mixing`` to the fine-tuning recipe, in every spec and study that has one."""
    holders: tuple[type[BaseModel], ...] = (Recipe, FinetuneSpec, *DiagnosticSpec.__subclasses__(), Study, LaterStudy)
    fields = Recipe.__pydantic_fields__
    fields["mixing"] = FieldInfo.from_annotated_attribute(Mixing, later(Mixing(), since=RELEASE))
    try:
        for model in holders:
            model.model_rebuild(force=True)
        yield
    finally:
        del fields["mixing"]
        for model in holders:
            model.model_rebuild(force=True)


class ConfidenceSpec(DiagnosticSpec):
    """How confident a network is on some test images."""

    kind: ClassVar[str] = "confidence"
    numerics_version: ClassVar[int] = 1

    test_images: StrictInt = Field(ge=1)


class Confidence(NamedTuple):
    test_image: int
    confidence: float
    seconds: float


class ConfidenceTrial(DiagnosticTrial[ConfidenceSpec, Confidence]):
    evaluation = Confidence

    @property
    def epochs(self) -> int:
        return 1

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        """Load nothing: the rows so far are in every checkpoint."""

    def _batches_of(self, epoch: int) -> list[Tensor]:
        return [drawn_images(len(self.data.test.labels_N), self.spec.test_images, self.spec.seed)]

    def _run_batch(self) -> Sequence[Confidence]:
        images = self.batches[self.batch]
        x_NCHW = to_input(self.data.test.images_NCHW[images], self.device, memory_format(self.spec.recipe))
        with torch.no_grad():
            sure_N = 100 * self.network(x_NCHW).softmax(1).amax(1)
        return [Confidence(*row, seconds=0.0) for row in zip(images.tolist(), sure_N.tolist(), strict=True)]


class ConfidenceSection(DiagnosticSection):
    test_images: StrictInt = Field(default=4, ge=1)


def confidences(
    section: ConfidenceSection, tuned: Sequence[FinetuneSpec], catalog: Catalog
) -> Iterator[ConfidenceSpec]:
    for network in tuned_networks(section, tuned, catalog):
        yield ConfidenceSpec(
            network=network,
            dataset=network.dataset,
            test_images=section.test_images,
            seed=network.seed,
            recipe=section.recipe,
        )


class LaterStudy(Study):
    confidence: ConfidenceSection | None = later(None, since=RELEASE)


COLUMNS = (
    *(column._replace(since=RELEASE) for column in DIAGNOSTIC_COLUMNS),
    Column("test_images", pa.int64(), Role.IDENTITY, "shown images", "images", since=RELEASE),
    Column("test_image", pa.int64(), Role.IDENTITY, "index of the image in the dataset, from 0", since=RELEASE),
    Column("confidence", pa.float64(), Role.NUMBER, "probability of what it decides for", "percent", since=RELEASE),
)


KIND = Kind(
    spec=ConfidenceSpec,
    stage=Stage.DIAGNOSTICS,
    rows=RowSchema(
        COLUMNS,
        number="test_image",
        view="confidences",
        releases={1: RELEASE},
        varying=frozenset(("confidence", "seconds")),
    ),
    workload=lambda spec, catalog: Workload(
        architecture=PACKAGED.architecture_of(spec.source),
        gradient_blocks=0,
        batch_size=spec.test_images,
        evaluation_batch_size=spec.test_images,
        images_evaluated=spec.test_images,
    ),
    problems=network_problems,
    row_numbers=lambda first, numbers: numbers if len(numbers) == first["test_images"] else [],
    trial=f"{__name__}:ConfidenceTrial",
    section=ConfidenceSection,
    section_since=RELEASE,
    section_problems=section_problems,
    expand=confidences,
)


def add_kind(patch: pytest.MonkeyPatch) -> None:
    """Simulate a release that added a kind of trial."""
    patch.setitem(cast(dict[str, Kind], kinds()), KIND.name, KIND)
    for module in (load, verify_records, studies):
        patch.setattr(module, "Study", LaterStudy)
