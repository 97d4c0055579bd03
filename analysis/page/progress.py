"""What was run and how far it is: the recorded studies against the finished trials."""

from collections.abc import Collection
from typing import NamedTuple

from analysis.studies import study_of
from jobs.expansion import expand
from jobs.results import StudyRecord
from jobs.specs import Contrast


class Progress(NamedTuple):
    """How far a study is in this root."""

    study: str
    digest: str
    description: str
    planned: int
    done: int
    contrasts: tuple[str, ...]


def progress(record: StudyRecord, finished: Collection[str]) -> Progress:
    """The trials of a recorded study, and how many of them are finished.

    Args:
        finished: the ids of the root's finished trials, of every kind.
    """
    study = study_of(record)
    planned = {spec.trial_id for spec in expand(study)}
    contrasts = tuple(map(_in_words, record.contrasts))
    return Progress(
        record.name, record.digest, study.description, len(planned), len(planned & set(finished)), contrasts
    )


def _in_words(one: Contrast) -> str:
    arms = f"{one.source} minus {one.baseline}, blocks {_listed(one.blocks)}"
    if one.baseline_blocks is not None:
        arms = f"{one.source}, blocks {_listed(one.blocks)} minus blocks {one.baseline_blocks}"
    when = "last epoch" if one.epoch == "last" else f"epoch {one.epoch}"
    return ", ".join([arms, when, *([f"family {one.family}"] if one.family is not None else [])])


def _listed(values: tuple[int, ...]) -> str:
    return ", ".join(str(value) for value in values)
