"""Later releases, made by a test: a field in a part of the recipe, and a kind of trial, that no release has yet."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar, NamedTuple

import pyarrow as pa
import pytest
import torch
from pydantic import BaseModel, Field, StrictInt
from pydantic.fields import FieldInfo
from torch import Tensor

from analysis import studies
from jobs import attempts, expansion, registry, specs
from jobs.batches import to_input
from jobs.checks import require_possible
from jobs.data.datasets import load_dataset
from jobs.examination import Examination, drawn_images, examined_network
from jobs.growth import later
from jobs.numerics import memory_format
from jobs.results import Store, verify_records
from jobs.results.schema import _EXAMINED, _KINDS, Column, Role, _Rows
from jobs.specs import ExaminationSpec, FinetuneSpec, Recipe, Spec
from jobs.study import Examine, Study
from orchestrator import study_files

RELEASE = "99.9.0"


class Mixing(Spec):
    """A part of the recipe with choices of its own."""

    alpha: float = 0.0


@contextmanager
def recipe_grown() -> Iterator[None]:
    """Code of a release that added ``mixing`` to the recipe of fine-tuning: to every spec and study that has one."""
    holders: tuple[type[BaseModel], ...] = (Recipe, FinetuneSpec, *ExaminationSpec.__subclasses__(), Study, LaterStudy)
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


class ConfidenceSpec(ExaminationSpec):
    """How sure a network is of some test images."""

    kind: ClassVar[str] = "confidence"
    numerics: ClassVar[int] = 1

    test_images: StrictInt = Field(ge=1)


class Confidence(NamedTuple):
    test_image: int
    confidence: float
    seconds: float


class ConfidenceTrial(Examination[ConfidenceSpec, Confidence]):
    evaluation = Confidence

    @property
    def epochs(self) -> int:
        return 1

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        """A checkpoint has the rows so far."""

    def _batches_of(self, epoch: int) -> list[Tensor]:
        return [drawn_images(len(self.data.test.labels_N), self.spec.test_images, self.spec.seed)]

    def _run_batch(self) -> Sequence[Confidence]:
        images = self.batches[self.batch]
        x_NCHW = to_input(self.data.test.images_NCHW[images], self.device, memory_format(self.spec.recipe))
        with torch.no_grad():
            sure_N = 100 * self.network(x_NCHW).softmax(1).amax(1)
        return [Confidence(*row, seconds=0.0) for row in zip(images.tolist(), sure_N.tolist(), strict=True)]


def open_confidence(store: Store, spec: ConfidenceSpec, device: torch.device) -> ConfidenceTrial:
    require_possible(spec)  # type: ignore[arg-type]  # of the kinds that mypy knows it is none
    image_size = registry.architecture(registry.source(spec.source).architecture).image_size
    return ConfidenceTrial(spec, examined_network(store, spec), load_dataset(spec.dataset, image_size), device)


class ConfidenceSection(Examine):
    test_images: StrictInt = Field(default=4, ge=1)


def confidences(section: ConfidenceSection, tuned: list[FinetuneSpec]) -> Iterator[ConfidenceSpec]:
    for network in expansion.examined(section, tuned):
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
    *(column._replace(since=RELEASE) for column in _EXAMINED),
    Column("test_images", pa.int64(), Role.IDENTITY, "shown images", "images", since=RELEASE),
    Column("test_image", pa.int64(), Role.IDENTITY, "index of the image in the dataset, from 0", since=RELEASE),
    Column("confidence", pa.float64(), Role.NUMBER, "probability of what it decides for", "percent", since=RELEASE),
)


def add_kind(patch: pytest.MonkeyPatch) -> None:
    """Code of a release that added a kind of trial, at the places that CONTRIBUTING.md lists."""
    kind = ConfidenceSpec.kind
    varying = frozenset(("confidence", "seconds"))
    rows = _Rows(COLUMNS, number="test_image", view="confidences", releases={1: RELEASE}, varying=varying)
    patch.setitem(specs._KINDS, kind, ConfidenceSpec)
    patch.setitem(_KINDS, kind, rows)
    for module in (study_files, verify_records, studies):
        patch.setattr(module, "Study", LaterStudy)
    patch.setitem(expansion.EXAMINATIONS, kind, confidences)
    patch.setitem(attempts.OPENERS, kind, open_confidence)
