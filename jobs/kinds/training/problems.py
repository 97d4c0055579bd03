"""A rule for trials that train a network. No torch."""

from jobs.errors import Mistake
from jobs.kinds.rules import impossible
from jobs.kinds.training.spec import TrainingSpec


def beyond_warmup(spec: TrainingSpec) -> list[Mistake]:
    """Require epochs after the warm-up."""
    warmup = spec.recipe.warmup_epochs
    if spec.epochs > warmup:
        return []
    return impossible(
        f"epochs: expected more than the recipe's warmup_epochs, {warmup}; got {spec.epochs}. "
        "Fix: lower warmup_epochs, or train longer"
    )
