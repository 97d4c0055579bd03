"""What attempts at trials store. No torch."""

from typing import NamedTuple

from jobs.specs.section import OnOtherDevice


class RetentionPolicy(NamedTuple):
    """What an attempt stores besides its result, and which checkpoints it accepts. Not part of any id."""

    checkpoint_every: int
    """Epochs between checkpoints."""
    checkpoint_batches: int | None = None
    """Batches between checkpoints, for long epochs."""
    weights: bool = False
    """Whether to keep the trained network's weights in the results root. Weights of a source are always kept."""
    on_other_device: OnOtherDevice = "continue"
    """What to do with a checkpoint written on another device kind or by another torch."""
