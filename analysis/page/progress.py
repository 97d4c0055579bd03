"""What was run and how far it is: the recorded studies against the finished trials."""

from typing import NamedTuple

import pandas as pd
import yaml

from analysis.studies import TRIAL, planned_trials
from jobs.results import StudyRecord

KEYS = list(TRIAL)


class Progress(NamedTuple):
    """How far a study is in this root."""

    study: str
    digest: str
    description: str
    planned: int
    done: int
    contrasts: tuple[str, ...]


def progress(record: StudyRecord, trials: pd.DataFrame) -> Progress:
    """The trials of a recorded study, and how many of them are finished.

    Args:
        trials: one row a finished trial of our own.
    """
    study = yaml.safe_load(record.text)
    planned = pd.DataFrame(planned_trials(study), columns=KEYS).drop_duplicates()
    done = planned.merge(trials[KEYS].drop_duplicates(), on=KEYS, how="inner")
    contrasts = tuple(
        f"{one.source} minus {one.baseline}, blocks {_listed(one.blocks)}, "
        + ("last epoch" if one.epoch == "last" else f"epoch {one.epoch}")
        for one in record.contrasts
    )
    return Progress(record.name, record.digest, study.get("description", ""), len(planned), len(done), contrasts)


def _listed(values: tuple[int, ...]) -> str:
    return ", ".join(str(value) for value in values)
