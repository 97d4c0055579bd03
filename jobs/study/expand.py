"""Expand a study into its trials."""

from collections.abc import Iterator, Sequence
from itertools import product

from jobs.errors import Code, InvalidRequest
from jobs.kind import Stage, kinds, sources_made
from jobs.kinds.finetune.spec import FinetuneSpec, whole_set_as_all
from jobs.specs.recipes import Recipe
from jobs.specs.section import seeds
from jobs.specs.trial import TrialSpec
from jobs.study.model import MOST_TRIALS, Grid, ScheduleRow, Study


def expand(study: Study) -> list[TrialSpec]:
    """Return the trials of a study without duplicates: those that train sources first, diagnostics last.

    Raises:
        InvalidRequest: if there are more than ``MOST_TRIALS`` with those of the study's sections.
    """
    tuned = fine_tuned(study)
    stages: dict[Stage, list[TrialSpec]] = {stage: [] for stage in Stage} | {Stage.TRANSFER: [*tuned]}
    for name in study.sections:
        before = sum(map(len, stages.values()))
        stages[kinds()[name].stage] += section_trials(study, name, tuned, before)
    return list({spec.trial_id: spec for trials in stages.values() for spec in trials}.values())


def fine_tuned(study: Study) -> list[FinetuneSpec]:
    """Return the trials of a study's grid and schedule, which by definition fine-tune (``jobs.kind.GRID_KIND``)."""
    if (grid := study.grid) is None:
        return []
    recipes, catalog = study.recipes, study.catalog
    trials = (spec for row in study.schedule for spec in _row(grid, row, recipes))
    return [whole_set_as_all(spec, catalog) for spec in trials]


def section_trials(study: Study, name: str, tuned: Sequence[FinetuneSpec], before: int = 0) -> Iterator[TrialSpec]:
    """Yield the trials of one of the study's sections.

    Args:
        name: the kind of the section.
        tuned: the study's fine-tuning trials.
        before: the number of the study's other trials.

    Raises:
        InvalidRequest: if there are more than ``MOST_TRIALS`` with these.
    """
    kind = kinds()[name]
    assert kind.expand is not None, f"the kind {name} has a section but no expand"
    for number, spec in enumerate(kind.expand(study.sections[name], tuned, study.catalog)):
        if before + number == MOST_TRIALS:
            raise InvalidRequest(
                Code.WRONG_VALUE,
                f"expected at most {MOST_TRIALS:,} trials of a study; {study.name} has more with those of {name}. Fix: "
                "divide it into several studies",
                key=name,
            )
        yield spec


def sources_read(study: Study) -> list[str]:
    """Return the sources whose weights the study's trials read, in order, except those that the study trains."""
    trials = expand(study)
    made = sources_made(trials, study.catalog)
    read = [name for spec in trials for field, name in (spec.subject,) if field == "source"]
    return [name for name in dict.fromkeys(read) if name not in made]


def _row(grid: Grid, row: ScheduleRow, recipes: tuple[Recipe, ...]) -> Iterator[FinetuneSpec]:
    for dataset, images, recipe, blocks, source, seed in product(
        grid.dataset, row.images, recipes, grid.blocks, grid.source, seeds(row.seeds)
    ):
        yield FinetuneSpec(
            source=source,
            dataset=dataset,
            blocks=blocks,
            images=images,
            seed=seed,
            epochs=row.epochs,
            evaluate_every=row.evaluate_every,
            recipe=recipe,
        )
