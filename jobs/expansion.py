"""From a study to its trials."""

from collections.abc import Iterator

from jobs.checks import whole_set_as_all
from jobs.specs import FinetuneSpec
from jobs.study import ScheduleRow, Study, seeds


def expand(study: Study) -> list[FinetuneSpec]:
    """The trials of a study, each once, in the order of its file."""
    trials = (whole_set_as_all(spec) for row in study.schedule for spec in _row(study, row))
    return list({spec.trial_id: spec for spec in trials}.values())


def _row(study: Study, row: ScheduleRow) -> Iterator[FinetuneSpec]:
    grid = study.grid
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
