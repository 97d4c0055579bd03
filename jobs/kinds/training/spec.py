"""Base spec of kinds that train a network."""

from pydantic import Field, StrictInt

from jobs.specs.base import MOST_EPOCHS
from jobs.specs.optimizers import TrainingRecipe
from jobs.specs.trial import TrialSpec


class TrainingSpec(TrialSpec):
    """Base of kinds that train a network, epoch by epoch."""

    epochs: StrictInt = Field(ge=1, le=MOST_EPOCHS)
    recipe: TrainingRecipe
