"""What a recorded study plans: the points of its grid, and the cells of the contrasts that it declared."""

from typing import Literal

from pydantic import ValidationError

from jobs import yaml_values
from jobs.errors import Code, DamagedFile
from jobs.expansion import expand
from jobs.results import StudyRecord
from jobs.specs import FinetuneSpec, recipe_digest
from jobs.study import Study

CELL = ("dataset", "images", "epochs", "recipe")
"""What the cells of a study's contrasts have from the study itself."""

PLACE = ("source", "dataset", "blocks", "images", "epochs", "recipe")
"""The points of a study's grid and schedule, whatever their seeds."""


def study_of(record: StudyRecord) -> Study:
    """A recorded study as it was launched.

    Raises:
        DamagedFile: when this version cannot read what another recorded.
    """
    try:
        return Study.model_validate(yaml_values.load(record.text))
    except ValidationError as error:
        place = f"studies/{record.name}/{record.digest}.yaml"
        raise DamagedFile(
            Code.DAMAGED_RECORD,
            f"the study {record.name} in version {record.digest} of this root cannot be read: {error}; launch its "
            f"file again, then remove {place}",
            file=place,
        ) from error


def planned_cells(record: StudyRecord) -> dict[int | Literal["last"], frozenset[tuple[object, ...]]]:
    """The cells that a recorded study evaluates, as its values of ``CELL``, by the epochs of its contrasts.

    Another study may evaluate the same training more often: that adds no cell to what this one declared.
    """
    planned = _planned(record, CELL)
    return {
        epoch: frozenset(values for spec, values in planned if epoch == "last" or epoch in spec.evaluated_epochs)
        for epoch in {"last", *(one.epoch for one in record.contrasts)}
    }


def planned_places(record: StudyRecord) -> frozenset[tuple[object, ...]]:
    """The points of a recorded study, as its values of ``PLACE``."""
    return frozenset(values for _, values in _planned(record, PLACE))


def _planned(record: StudyRecord, names: tuple[str, ...]) -> list[tuple[FinetuneSpec, tuple[object, ...]]]:
    """The fine-tuned trials of the first seed, each with its values of ``names``."""
    study = study_of(record)
    one_seed = study.model_copy(
        update={"schedule": tuple(row.model_copy(update={"seeds": 1}) for row in study.schedule)}
    )
    digests = {recipe: recipe_digest(recipe) for recipe in study.recipes}
    return [
        (spec, tuple(digests[spec.recipe] if name == "recipe" else getattr(spec, name) for name in names))
        for spec in expand(one_seed)
        if isinstance(spec, FinetuneSpec)
    ]
