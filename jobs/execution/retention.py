"""What attempts at trials store. No torch."""

from typing import NamedTuple

from jobs.kind import kind_of
from jobs.specs.section import OnOtherDevice
from jobs.specs.trial import TrialSpec


class RetentionPolicy(NamedTuple):
    """What an attempt stores besides its result, and which checkpoints it accepts. Not part of any id."""

    checkpoint_every: int
    """Epochs between checkpoints."""
    checkpoint_batches: int | None = None
    """Batches between checkpoints, for long epochs."""
    weights: bool = False
    """Whether the study asks to keep the trained network's weights in the results root (``keeps_weights``)."""
    on_other_device: OnOtherDevice = "continue"
    """What to do with a checkpoint written on another device kind or by another torch."""


def keeps_weights(spec: TrialSpec, trains: bool, asked: bool) -> bool:
    """Return whether a trial keeps its network's weights in the results root. Weights of a source are always kept.

    Args:
        trains: whether it trains its network.
        asked: as ``RetentionPolicy.weights``.
    """
    return kind_of(spec).keeps_weights or (trains and asked)
