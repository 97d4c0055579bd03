"""Expand a study into its trials."""

from collections.abc import Iterator
from itertools import product

from jobs.kind import Stage, kinds, sources_made
from jobs.kinds.finetune.spec import FinetuneSpec, whole_set_as_all
from jobs.specs.recipes import Recipe
from jobs.specs.section import seeds
from jobs.specs.trial import TrialSpec
from jobs.study.model import Grid, ScheduleRow, Study


def expand(study: Study) -> list[TrialSpec]:
    """Return the trials of a study without duplicates: those that train sources first, diagnostics last."""
    tuned = fine_tuned(study)
    stages: dict[Stage, list[TrialSpec]] = {stage: [] for stage in Stage} | {Stage.TRANSFER: [*tuned]}
    for name, section in study.sections.items():
        kind = kinds()[name]
        assert kind.expand is not None, f"the kind {name} has a section but no expand"
        stages[kind.stage] += kind.expand(section, tuned, study.catalog)
    return list({spec.trial_id: spec for trials in stages.values() for spec in trials}.values())


def fine_tuned(study: Study) -> list[FinetuneSpec]:
    """Return the trials of a study's grid and schedule, which by definition fine-tune (``jobs.kind.GRID_KIND``)."""
    if (grid := study.grid) is None:
        return []
    recipes, catalog = study.recipes, study.catalog
    trials = (spec for row in study.schedule for spec in _row(grid, row, recipes))
    return [whole_set_as_all(spec, catalog) for spec in trials]


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
