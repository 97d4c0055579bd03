"""Contrasts: comparisons that a study declares in advance."""

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, StrictInt, model_validator

from jobs.specs.base import NAME_PATTERN, Spec
from jobs.specs.growth import later

EvaluatedEpoch: TypeAlias = Annotated[int, Field(strict=True, ge=1)] | Literal["last"]
"""An epoch from 1, or each trial's last one."""


class Contrast(Spec):
    """A comparison that a study declares in advance: ``source`` minus ``baseline``, or two depths of one source.

    Its cells are the study's (dataset, images) pairs at the given blocks and epoch. P-values of all cells of the
    contrasts in one ``family`` are corrected together by Holm's method (docs/explanation/statistics.md).
    """

    source: str = Field(pattern=NAME_PATTERN, description="source model of the first arm")
    baseline: str = Field(pattern=NAME_PATTERN, description="source model whose accuracy is subtracted")
    blocks: tuple[StrictInt, ...] = Field(min_length=1, description="numbers of fine-tuned blocks to compare at")
    epoch: EvaluatedEpoch = Field(
        default="last", description="the evaluated epoch to compare at; last: each trial's last epoch"
    )
    baseline_blocks: StrictInt | None = later(
        None,
        since="0.3.0",
        description="fine-tuned blocks of the baseline, if it is the same source at another depth; default: those of "
        "the source",
    )
    family: str | None = later(
        None,
        since="0.3.0",
        pattern=NAME_PATTERN,
        max_length=60,
        description="set of contrasts that are corrected together; default: the study's own family",
    )

    @model_validator(mode="after")
    def _unlike_arms(self) -> Self:
        if self.source == self.baseline and self.baseline_blocks is None:
            raise ValueError(
                f"expected two sources, or one source at two depths; got {self.source} twice without "
                "baseline_blocks. Fix: name another baseline, or set baseline_blocks to the baseline's depth"
            )
        if self.source != self.baseline and self.baseline_blocks is not None:
            raise ValueError(
                f"expected baseline_blocks only between depths of one source; got {self.source} and {self.baseline}. "
                "Fix: remove baseline_blocks, or use the same source for both"
            )
        if self.baseline_blocks in self.blocks:
            raise ValueError(
                f"expected baseline_blocks to differ from every entry of blocks; got {self.baseline_blocks} in both. "
                "Fix: remove it from one of them"
            )
        return self
