"""Base of all recipes: how a trial computes, and how its network is optimized."""

from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from math import cos, pi
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, StrictBool, StrictFloat, StrictInt, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from jobs.specs.base import MOST, MOST_EPOCHS, Spec
from jobs.specs.growth import later

DOES_NOT_FIT = "does_not_fit"
"""Type of pydantic's errors about a choice that is valid alone, but not beside the recipe's other choices."""


Precision = Literal["float32", "bfloat16", "float16"]
"""Floating-point formats of a network's arithmetic."""


class Execution(Spec):
    """Choices of arithmetic. They change the last bits of sums, so they are part of the recipe."""

    precision: Precision = Field(
        default="float32",
        description="float32: all arithmetic; bfloat16, float16: matrix products and convolutions and what torch's "
        "autocast computes beside them, with weights, gradients, statistics and the loss in float32; float16 scales "
        "the loss",
    )
    threads: StrictInt = Field(default=1, ge=1, le=1024, description="torch's CPU threads, whatever the actor's share")
    memory_format: Literal["contiguous", "channels_last"] = Field(
        default="channels_last", description="memory layout of images and weights"
    )
    compile: StrictBool = Field(
        default=False, description="torch.compile: only false, because compiled blocks were not faster"
    )
    tf32: StrictBool = Field(default=False, description="use TF32 in matrix products and convolutions on CUDA")
    evaluation_batch_size: StrictInt = Field(
        default=256, ge=1, le=MOST, description="images per batch; the split changes the last bits of sums"
    )

    @field_validator("compile")
    @classmethod
    def _not_compiled(cls, value: bool) -> bool:
        if value:
            raise ValueError(
                "expected false: compiled blocks were not faster where it was measured. Fix: leave out compile"
            )
        return value

    @property
    def number_bytes(self) -> int:
        """Bytes of a number in most activations."""
        return 4 if self.precision == "float32" else 2

    @property
    def operations(self) -> tuple[str, ...]:
        """Operations of its trials that not every trial has (``jobs.execution.operations``)."""
        return () if self.precision == "float32" else (self.precision,)


class TrainingRecipe(Execution):
    """How a network is optimized. The defaults are those of Tables 3 and 4: SGD with momentum and step decay."""

    optimizer: Literal["sgd", "adamw"] = Field(
        default="sgd",
        description="sgd: stochastic gradient descent (Table 3); adamw: Adam with decoupled weight decay",
    )
    learning_rate: StrictFloat = Field(
        default=0.1, gt=0, le=1e6, description="learning rate of the first epochs, after those of the warm-up"
    )
    momentum: StrictFloat = Field(default=0.9, ge=0, lt=1, description="for sgd: its momentum")
    weight_decay: StrictFloat = Field(
        default=5e-4,
        ge=0,
        description="on all trained parameters. sgd: an L2 penalty; adamw: each step multiplies them by 1 - learning "
        "rate x weight_decay",
    )
    batch_size: StrictInt = Field(
        default=128, ge=1, le=MOST, description="images per batch; the smaller last batch of an epoch is kept"
    )
    lr_decay: StrictFloat = Field(default=0.1, gt=0, le=1, description="for steps: factor at each milestone")
    lr_milestones: Literal["paper", "as-released"] = Field(
        default="paper",
        description="for steps. paper: after 1/3 and 2/3 of the epochs; as-released: every epochs // 3, so also after "
        "99 of 100",
    )
    beta1: StrictFloat = later(
        0.9, since="0.3.0", ge=0, lt=1, description="for adamw: how much of the mean of gradients a step keeps"
    )
    beta2: StrictFloat = later(
        0.999,
        since="0.3.0",
        ge=0,
        lt=1,
        description="for adamw: how much of the mean of squared gradients a step keeps",
    )
    eps: StrictFloat = later(
        1e-8, since="0.3.0", gt=0, le=1, description="for adamw: added to the root of the mean of squared gradients"
    )
    schedule: Literal["steps", "cosine"] = later(
        "steps",
        since="0.3.0",
        description="learning rate of each epoch after the warm-up. steps: multiplied by lr_decay at each of "
        "lr_milestones; cosine: half a cosine from learning_rate down to min_learning_rate",
    )
    min_learning_rate: StrictFloat = later(
        0.0, since="0.3.0", ge=0, description="for cosine: what the learning rate would be after the last epoch"
    )
    warmup_epochs: StrictInt = later(
        0,
        since="0.3.0",
        ge=0,
        le=MOST_EPOCHS,
        description="first epochs, in which the learning rate rises linearly; the schedule covers the others",
    )
    warmup_factor: StrictFloat = later(
        0.01, since="0.3.0", gt=0, le=1, description="with warmup_epochs: share of learning_rate in the first epoch"
    )
    evaluation: Literal["plain", "folded"] = later(
        "plain",
        since="0.3.0",
        description="how test images are evaluated. plain: layer by layer; folded: with BatchNorm layers multiplied "
        "into the convolutions before them, anew at each evaluation. No effect on training",
    )
    backbone_lr_factor: StrictFloat = later(
        1.0,
        since="0.3.0",
        gt=0,
        le=1e6,
        description="learning rate of everything but the last layer (fc), as a multiple of the last layer's",
    )

    @model_validator(mode="after")
    def _choices_fit(self) -> Self:
        if mistakes := [
            InitErrorDetails(type=PydanticCustomError(DOES_NOT_FIT, message), loc=(key,), input=getattr(self, key))
            for key, message in self._misfits()
        ]:
            raise ValidationError.from_exception_data(type(self).__name__, mistakes)
        return self

    def _misfits(self) -> Iterator[tuple[str, str]]:
        """Yield the key of each choice that does not go with the others, and the rule."""
        fields = type(self).model_fields
        choices = vars(self)
        for key in _conditional(type(self)):
            value = choices[key]
            if value != fields[key].default and (needed := _needed(key, choices)):
                yield (
                    key,
                    (
                        f"expected {key} only with {needed.wanted}; got {value} with {needed.key}: {needed.chosen}. "
                        f"Fix: leave out {key}, or choose {needed.wanted}"
                    ),
                )
        if self.schedule == "cosine" and self.min_learning_rate > self.learning_rate:
            yield (
                "min_learning_rate",
                (
                    f"expected at most the learning_rate, {self.learning_rate}; got {self.min_learning_rate}. "
                    "Fix: lower min_learning_rate"
                ),
            )

    @property
    def operations(self) -> tuple[str, ...]:
        chosen = tuple(name for name in (self.optimizer, self.schedule) if name in ("adamw", "cosine"))
        return (*super().operations, *chosen, *(("folded",) if self.evaluation == "folded" else ()))

    @property
    def state_numbers(self) -> int:
        """Numbers that the optimizer keeps per trained parameter."""
        if self.optimizer == "adamw":
            return 2
        return 1 if self.momentum else 0

    def learning_rate_at(self, epoch: int, epochs: int) -> float:
        """Return the learning rate of the last layer in ``epoch`` (from 1) of ``epochs``.

        It is the same number, bit for bit, as that of torch's ``SequentialLR``, stepped after each epoch, from
        ``LinearLR(start_factor=warmup_factor, total_iters=warmup_epochs)`` to ``CosineAnnealingLR(T_max=epochs -
        warmup_epochs, eta_min=min_learning_rate)``, or for steps to ``LambdaLR`` with ``lr_decay`` to the power of the
        milestones passed. With fewer than 3 epochs after the warm-up, steps never decays.
        """
        if epoch <= self.warmup_epochs:
            return _warming_up(self.learning_rate, self.warmup_factor, self.warmup_epochs)[epoch - 1]
        epoch, epochs = epoch - self.warmup_epochs, epochs - self.warmup_epochs
        if self.schedule == "cosine":
            least = self.min_learning_rate
            first = least + (self.learning_rate - least) if self.warmup_epochs else self.learning_rate
            return _cosine(first, least, epochs)[epoch - 1]
        period = epochs // 3
        if period == 0:
            return self.learning_rate
        decays = (epoch - 1) // period
        if self.lr_milestones == "paper":
            decays = min(decays, 2)
        return self.learning_rate * self.lr_decay**decays


class _Needed(NamedTuple):
    """What another choice would have to be, so that a choice has an effect."""

    wanted: str
    key: str
    chosen: Any


_ONLY_WITH: Mapping[str, tuple[str, str]] = {
    "momentum": ("optimizer", "sgd"),
    "beta1": ("optimizer", "adamw"),
    "beta2": ("optimizer", "adamw"),
    "eps": ("optimizer", "adamw"),
    "lr_decay": ("schedule", "steps"),
    "lr_milestones": ("schedule", "steps"),
    "min_learning_rate": ("schedule", "cosine"),
}
"""Choices that have an effect only with one value of another choice."""


@cache
def _conditional(recipe: "type[TrainingRecipe]") -> tuple[str, ...]:
    """Return the choices that ``_needed`` may refuse. Others would take most of the time of expanding a study: pydantic
    runs these checks for every trial, though recipes are shared.
    """
    return tuple(key for key in recipe.model_fields if key in _ONLY_WITH or key == "warmup_factor")


def _needed(key: str, choices: Mapping[str, Any]) -> _Needed | None:
    """Return what ``choices`` lack so that the choice ``key`` has an effect; None if it has one."""
    if key == "warmup_factor":
        return None if choices.get("warmup_epochs") else _Needed("warmup_epochs above 0", "warmup_epochs", 0)
    if key not in _ONLY_WITH:
        return None
    other, value = _ONLY_WITH[key]
    chosen = choices.get(other, TrainingRecipe.model_fields[other].default)
    return None if chosen == value else _Needed(f"{other}: {value}", other, chosen)


def on_top_of(base: Mapping[str, Any], choices: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's choices with others instead, without those of ``base`` that no longer have an effect.

    A base with ``lr_milestones: as-released`` can so be used with ``schedule: cosine``.
    """
    both = {**base, **choices}
    return {key: value for key, value in both.items() if key in choices or _needed(key, both) is None}


@lru_cache(maxsize=16)
def _warming_up(rate: float, factor: float, epochs: int) -> tuple[float, ...]:
    """Return the learning rates of torch's ``LinearLR``, which computes each from the one before."""
    rates = [rate * factor]
    for epoch in range(1, epochs):
        rates.append(rates[-1] * (1.0 + (1.0 - factor) / (epochs * factor + (epoch - 1) * (1.0 - factor))))
    return tuple(rates)


@lru_cache(maxsize=16)
def _cosine(rate: float, least: float, epochs: int) -> tuple[float, ...]:
    """Return the learning rates of torch's ``CosineAnnealingLR``, which computes each from the one before."""
    rates = [rate]
    for epoch in range(1, epochs):
        fall = (1 + cos(pi * epoch / epochs)) / (1 + cos(pi * (epoch - 1) / epochs))
        rates.append(fall * (rates[-1] - least) + least)
    return tuple(rates)
