"""From a study to its trials."""

from collections.abc import Iterator

from jobs import registry
from jobs.checks import whole_set_as_all
from jobs.specs import AnySpec, FinetuneSpec
from jobs.study import Grid, ScheduleRow, Study, seeds


def expand(study: Study) -> list[AnySpec]:
    """The trials of a study, each once: those that make its sources first, then in the order of its file."""
    with registry.using(study.cards):
        trials: list[AnySpec] = [
            registry.source(name).pretrain_spec() for name in (study.pretrain.source if study.pretrain else ())
        ]
        if study.grid is not None:
            grid = study.grid
            trials += [whole_set_as_all(spec) for row in study.schedule for spec in _row(study, grid, row)]
    return list({spec.trial_id: spec for spec in trials}.values())


def _row(study: Study, grid: Grid, row: ScheduleRow) -> Iterator[FinetuneSpec]:
    for dataset in grid.dataset:
        for images in row.images:
            for blocks in grid.blocks:
                for source in grid.source:
                    for seed in seeds(row.seeds):
                        yield FinetuneSpec(
                            source=source,
                            dataset=dataset,
                            blocks=blocks,
                            images=images,
                            seed=seed,
                            epochs=row.epochs,
                            evaluate_every=row.evaluate_every,
                            recipe=study.recipe,
                        )
