"""The plan of a recorded study: the points of its grid, and the cells of what it declared."""

from collections.abc import Iterable
from contextlib import suppress
from typing import TypeAlias

from pydantic import ValidationError

from jobs.catalog.catalog import Cards
from jobs.catalog.dataset_card import DatasetCard
from jobs.catalog.source_card import SourceCard
from jobs.errors import Code, DamagedFile
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.results import StudyRecord
from jobs.results.records import reason
from jobs.results.studies import of_newer_version, unknown_keys
from jobs.specs.contrast import EvaluatedEpoch
from jobs.specs.trial import recipe_digest
from jobs.study.expand import expand
from jobs.study.model import Study, unknown_sections
from jobs.system import safe_yaml

CELL = ("dataset", "images", "epochs", "recipe")
"""The keys of the cells of a contrast or an equivalence that follow from the study."""

PLACE = ("source", "dataset", "blocks", "images", "epochs", "recipe")
"""The keys of the points of a study's grid and schedule, without the seed."""

PlannedCells: TypeAlias = dict[EvaluatedEpoch, frozenset[tuple[object, ...]]]
"""Values of ``CELL``, by epoch."""


def study_of(record: StudyRecord) -> Study:
    """Return a recorded study as it was launched, without the sections of kinds that are not registered here.

    Raises:
        DamagedFile: if this version cannot read the record.
    """
    values = safe_yaml.load(record.text)
    sections = unknown_sections(values)
    try:
        return Study.model_validate({key: value for key, value in values.items() if key not in sections})
    except ValidationError as error:
        place = f"studies/{record.name}/{record.digest}.yaml"
        if unknown := unknown_keys(error):
            raise of_newer_version(place, unknown) from error
        raise DamagedFile(
            Code.DAMAGED_RECORD,
            f"the study {record.name} in version {record.digest} of this root cannot be read: {reason(error)}. Fix: "
            f"launch its file again, then remove {place}",
            file=place,
        ) from error


def own_cards(records: Iterable[StudyRecord]) -> Cards:
    """Return the cards that recorded studies define; a name stands for one thing in a root.

    Studies that this version cannot read define none.
    """
    sources: dict[str, SourceCard] = {}
    datasets: dict[str, DatasetCard] = {}
    for record in records:
        with suppress(DamagedFile):
            own = study_of(record).catalog.own
            sources |= own.sources
            datasets |= own.datasets
    return Cards(sources=sources, datasets=datasets)


def planned_cells(record: StudyRecord) -> PlannedCells:
    """Return the cells that a recorded study evaluates, as tuples of ``CELL``, by the epochs of what it declared.

    Another study may evaluate the same training more often; this adds no cell to what this study declared.
    """
    planned = _planned(record, CELL)
    epochs: set[EvaluatedEpoch] = {"last", *(declared.epoch for declared in record.contrasts)}
    epochs |= {declared.epoch for declared in record.equivalences}
    return {
        epoch: frozenset(values for spec, values in planned if epoch == "last" or spec.evaluates(epoch))
        for epoch in epochs
    }


def planned_places(record: StudyRecord) -> frozenset[tuple[object, ...]]:
    """Return the points of a recorded study, as tuples of ``PLACE``."""
    return frozenset(values for _, values in _planned(record, PLACE))


def _planned(record: StudyRecord, names: tuple[str, ...]) -> list[tuple[FinetuneSpec, tuple[object, ...]]]:
    """Return the fine-tuning trials of the first seed, each with its values of ``names``."""
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
