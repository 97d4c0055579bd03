"""The learning-rate schedules of recipes, as torch's schedulers."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, LRScheduler, SequentialLR

from jobs.specs.optimizers import TrainingRecipe


def torch_schedule(optimizer: Optimizer, recipe: TrainingRecipe, epochs: int) -> LRScheduler:
    """Return torch's schedulers of a recipe."""
    warmup = recipe.warmup_epochs
    if not warmup:
        return _after_warmup(optimizer, recipe, epochs)
    rising = LinearLR(optimizer, start_factor=recipe.warmup_factor, total_iters=warmup)
    return SequentialLR(optimizer, [rising, _after_warmup(optimizer, recipe, epochs - warmup)], milestones=[warmup])


def _after_warmup(optimizer: Optimizer, recipe: TrainingRecipe, epochs: int) -> LRScheduler:
    if recipe.schedule == "cosine":
        return CosineAnnealingLR(optimizer, T_max=epochs, eta_min=recipe.min_learning_rate)
    period, most = epochs // 3, 2 if recipe.lr_milestones == "paper" else epochs

    def factor(epoch: int) -> float:
        return recipe.lr_decay ** min(epoch // period, most) if period else 1.0

    return LambdaLR(optimizer, factor)
