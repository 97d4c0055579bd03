"""The checked model of a study, by which plans and launches know it."""

from pathlib import Path
from typing import TypeAlias

from jobs.study.model import Study as Model
from orchestrator.study.load import load_study


class Checked:
    """A study that has been checked."""

    _model: Model


StudyOrName: TypeAlias = Checked | str | Path
"""A study (``ds.Study``), the name of a packaged one, or the path of a study file."""


def model_of(study: StudyOrName) -> Model:
    """Return the model of a study.

    Raises:
        InvalidRequest: if it has no study of this name, or the file has mistakes.
    """
    return study._model if isinstance(study, Checked) else load_study(str(study))
