"""Spec of a fine-tuning trial: a source, a target, and how many blocks and images (paper, Sections 3 and 4)."""

from typing import ClassVar, Self

from pydantic import Field, StrictInt, model_validator

from jobs.catalog.catalog import Catalog
from jobs.kinds.training.spec import TrainingSpec
from jobs.specs.base import ALL, MOST, NAME_PATTERN
from jobs.specs.recipes import Recipe

MOST_KEPT_BYTES = 2 << 30
"""Above this size of a training subset's activations, the trunk runs on each batch. Changing it changes numbers,
because training batches sum in another order than passes over the subset.
"""


class FinetuneSpec(TrainingSpec):
    """One fine-tuning trial: the last ``blocks`` blocks of ``source`` on ``images`` images of ``dataset``."""

    kind: ClassVar[str] = "finetune"
    numerics_version: ClassVar[int] = 2
    first_numerics_version: ClassVar[int] = 2

    source: str = Field(pattern=NAME_PATTERN)
    dataset: str = Field(pattern=NAME_PATTERN)
    blocks: StrictInt = Field(ge=ALL, le=MOST, description="fine-tuned blocks besides the FC layer; -1: everything")
    images: StrictInt = Field(ge=ALL, le=MOST, description="size of the random training subset; -1: the whole set")
    evaluate_every: StrictInt = Field(
        ge=1, le=MOST, description="f: evaluate test accuracy after epochs 1, 1 + f, 1 + 2f, ... and the last"
    )
    recipe: Recipe

    @model_validator(mode="after")
    def _some_images(self) -> Self:
        if self.images == 0:
            raise ValueError("expected a training subset of at least 1 image, or images -1 for the whole set; got 0")
        return self

    @property
    def prefix(self) -> str:
        return f"{self.kind}-{self.dataset}-{self.source}-k{self.blocks}-n{self.images}-s{self.seed}"

    @property
    def subject(self) -> tuple[str, str]:
        return "source", self.source

    @property
    def source_read(self) -> str | None:
        return self.source

    @property
    def evaluated_epochs(self) -> list[int]:
        """Epochs (from 1) after which the whole test set is evaluated (Section A.4)."""
        return sorted({*range(1, self.epochs + 1, self.evaluate_every), self.epochs})

    @property
    def evaluations(self) -> int:
        """The number of these epochs, without listing them: some trials may have a million."""
        return len(range(1, self.epochs, self.evaluate_every)) + 1

    def evaluates(self, epoch: int) -> bool:
        """Whether an epoch is one of them."""
        return epoch == self.epochs or epoch in range(1, self.epochs, self.evaluate_every)

    @property
    def keeps_activations(self) -> bool:
        """Whether the trunk's statistics are fixed, so that its activations can be computed once per image."""
        return self.blocks != ALL and self.recipe.frozen_batchnorm != "batch"


def apart_from_blocks(spec: FinetuneSpec) -> FinetuneSpec:
    """Return the spec with ``blocks`` set to -1: equal for trials that differ only in ``blocks`` (a bundle)."""
    return spec.model_copy(update={"blocks": ALL})


def whole_set_as_all(spec: FinetuneSpec, catalog: Catalog) -> FinetuneSpec:
    """Return the trial with a size equal to the whole training set replaced by -1, so that it has one id."""
    card = catalog.datasets.get(spec.dataset)
    if card is not None and spec.images == card.train:
        return spec.model_copy(update={"images": ALL})
    return spec


def images_used(spec: FinetuneSpec, catalog: Catalog) -> int:
    """Return the size of the training subset."""
    return catalog.dataset(spec.dataset).train if spec.images == ALL else spec.images
