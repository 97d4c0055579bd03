"""Trial kinds registered by tests and benchmarks: fine-tuning under another name, with its own grid."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TypeVar, cast
from unittest import mock

import yaml
from pydantic import StrictInt

from jobs.catalog.catalog import Catalog
from jobs.kind import Kind, kinds
from jobs.kinds.finetune.kind import KIND as FINETUNE
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.specs.recipes import Recipe
from jobs.specs.section import KindSection, seeds

SpecT = TypeVar("SpecT", bound=FinetuneSpec)


class GridSection(KindSection):
    """All combinations: the keys of a study's grid and of one schedule row."""

    source: tuple[str, ...]
    dataset: tuple[str, ...]
    blocks: tuple[StrictInt, ...]
    images: tuple[StrictInt, ...]
    epochs: StrictInt
    seeds: StrictInt
    evaluate_every: StrictInt
    recipe: Recipe = Recipe()
    checkpoint_batches: StrictInt = 1_000_000


def another_finetuning(spec: type[FinetuneSpec], trial: str) -> Kind:
    """Return the record of a kind whose trials fine-tune.

    Args:
        trial: ``module:class`` of its trials in progress.
    """

    def expand(section: GridSection, tuned: Sequence[FinetuneSpec], catalog: Catalog) -> Iterator[FinetuneSpec]:
        return trials_of(spec, section)

    rows = FINETUNE.rows._replace(view=spec.kind)
    return replace(
        FINETUNE, spec=spec, rows=rows, trial=trial, section=GridSection, section_since="0.3.0", expand=expand
    )


def trials_of(spec: type[SpecT], section: GridSection) -> Iterator[SpecT]:
    """Yield the trials of a section."""
    for source, dataset, blocks, images, seed in product(
        section.source, section.dataset, section.blocks, section.images, seeds(section.seeds)
    ):
        yield spec(
            source=source,
            dataset=dataset,
            blocks=blocks,
            images=images,
            seed=seed,
            epochs=section.epochs,
            evaluate_every=section.evaluate_every,
            recipe=section.recipe,
        )


def trials_in(spec: type[SpecT], study_file: Path) -> list[SpecT]:
    """Return the trials of a study file, in a process that has not registered their kind."""
    section = yaml.safe_load(study_file.read_text(encoding="utf-8"))[spec.kind]
    return list(trials_of(spec, GridSection.model_validate(section)))


@contextmanager
def registered(kind: Kind) -> Iterator[None]:
    """Register a kind in this process, so that its results can be read and committed.

    Studies have its section only if the kind was registered before they were imported.
    """
    with mock.patch.dict(cast(dict[str, Kind], kinds()), {kind.name: kind}):
        yield
